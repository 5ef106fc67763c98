"""The quickstart itself, with real engines and real training, and the two controls that keep its figure honest."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from training_support import put_rows, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.config import FusionConfig
from bohdi_ray.config.loading import load_config
from bohdi_ray.driver.real_components import publish_base
from bohdi_ray.evaluation.heldout_loss import heldout_loss, loaded
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.records import GenerationRequest, SamplingSpec
from bohdi_ray.run.run_dir import CHECKPOINTS, RunDir, weights_dir
from bohdi_ray.run.segments import Segments
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.tree.record import journal

QUICKSTART = Path(__file__).parents[2] / "jobs" / "configs" / "quickstart.yaml"
RUN_S, CONTROL_S = 2400, 900


@pytest.fixture(scope="module")
def healed(ray_session, quickstart_models, tmp_path_factory):
    """One run of the quickstart: its configuration, run directory and summary."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    config = load_config(QUICKSTART, [f"run_dir={folder}", "observe.console=lines"])
    summary = fuse(config)
    return config, RunDir.open(folder), summary


@pytest.mark.long(900)
@pytest.mark.timeout(RUN_S)
def test_the_pruned_target_heals_on_samples_it_never_saw(healed):
    _, run, summary = healed
    written = json.loads(run.read_bytes("summary.json"))
    assert written["heldout_loss_after"] <= 0.8 * written["heldout_loss_before"]
    assert len(written["rounds"]) >= 3 and all(r["accepted"] >= 12 for r in written["rounds"])
    assert written["rounds"][-1]["weights_version"] >= 1
    assert written["tokens_per_accepted_sample"].keys() == {"sprout", "question", "answer", "judge"}
    assert written["tree_digest"] == summary.tree_digest
    samples = list(SampleStore(run).iter_samples())
    assert len(samples) == sum(r["accepted"] for r in written["rounds"])
    rewards = [sample.reward for sample in samples]
    assert set(rewards) == {0, 1}, rewards
    assert summary.samples.wins["student"] == rewards.count(0)
    trained = {sample_id for rows in rows_drawn(run) for sample_id in rows}
    assert not trained & {s.sample_id for s in samples if s.heldout}, "a held-out sample was trained on"


@pytest.mark.long(30)
@pytest.mark.timeout(300)
def test_the_written_target_loads_and_answers_in_transformers_and_in_vllm(healed):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bohdi_ray.engines.spec import EngineSpec
    from bohdi_ray.engines.vllm.engine import LLMEngine

    config, run, _ = healed
    folder = run.path("target")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 22 and model.config.tie_word_embeddings
    turn = [{"role": "user", "content": "Why is the sky blue?"}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    new = model.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert len(tokenizer.decode(new, skip_special_tokens=True).split()) >= 5

    async def answer() -> str:
        engine = LLMEngine(EngineSpec(config.target, folder))
        await engine.start()
        try:
            request = GenerationRequest("q", "answer", "Why is the sky blue?", SamplingSpec(0.0, 1.0, 24, 1))
            answers = [c async for ready in engine.run([request]) for c in ready]
            return answers[0].text
        finally:
            await engine.stop()

    assert len(asyncio.run(answer()).split()) >= 5


@pytest.mark.long(300)
@pytest.mark.timeout(2 * CONTROL_S)
def test_learning_rate_0_does_not_move_it_and_shuffled_answers_teach_clearly_less(ray_session, healed, tmp_path):
    """The same rows, trained on again without engines; measured on the same held-out samples, and on all pairs."""
    config, run, summary = healed
    still = train_again(ray_session, config, run, tmp_path / "still", learning_rate=0.0, shuffle=False)
    shuffled = train_again(ray_session, config, run, tmp_path / "shuffled", learning_rate=None, shuffle=True)
    newest = len(summary.rounds)
    folders = {"before": run.path(weights_dir(0)), "healed": run.path(weights_dir(newest))}
    check_controls(config, run, folders | {"still": still, "shuffled": shuffled})


def check_controls(config: FusionConfig, run: RunDir, folders: dict[str, str]) -> None:
    """Compares weights folders on the run's held-out samples.

    Much of the fall is style: any answers of the teachers heal a pruned model's way of writing, and by how much differs
    from run to run more than a dozen held-out samples can tell. What shuffled answers cannot teach is which answer
    belongs to which question. So every answer is also measured under every other question: the loss it has there, minus
    its loss under its own question, is what the model gains from knowing the question, with style taken out.
    """
    store = SampleStore(run)
    heldout = [row for _, row in sorted(store.completions(store.heldout_ids()).items())]
    pairs = [(i, j) for i in range(len(heldout)) for j in range(len(heldout))]
    rows = [Completion(f"{i}/{j}", heldout[i].question, heldout[j].answer) for i, j in pairs]
    own_loss, gain = {}, {}
    for name, folder in folders.items():
        measured = heldout_loss(loaded(folder, config), rows, config).rows
        assert len(measured) == len(rows)
        table = np.array([measured[row.example_id][0] / measured[row.example_id][1] for row in rows])
        table = table.reshape(len(heldout), len(heldout))  # [question, answer], loss per token
        own = np.diag(table)
        own_loss[name] = own.mean()
        gain[name] = (table.sum(axis=0) - own) / (len(heldout) - 1) - own
    means = {name: value.mean() for name, value in gain.items()}
    print(f"held-out losses {own_loss}; gains from the question {means}")
    assert own_loss["still"] == pytest.approx(own_loss["before"], rel=1e-3)
    assert means["shuffled"] < 0.8 * means["healed"]
    assert (gain["healed"] > gain["shuffled"]).mean() >= 0.75, gain


def rows_drawn(run: RunDir) -> list[tuple[str, ...]]:
    """Sample ids of the training rows, by round, as the journal has them."""
    segments = (journal.decode(data) for _, data in Segments(run).read_segments().segments)
    return [event.sample_ids for events in segments for event in events if isinstance(event, journal.RowsDrawn)]


def train_again(ray, config, run: RunDir, folder: Path, learning_rate: float | None, shuffle: bool) -> str:
    """Trains on the run's rows once more, from version 0; returns the folder of the newest weights."""
    if learning_rate is not None:
        config = config.model_copy(
            update={"training": config.training.model_copy(update={"learning_rate": learning_rate})}
        )
    store = SampleStore(run)
    by_round = rows_drawn(run)
    found = store.completions({sample_id for ids in by_round for sample_id in ids})
    texts = {sample_id: (row.question, row.answer) for sample_id, row in found.items()}
    if shuffle:
        ids = sorted(texts)
        order = np.random.default_rng(0).permutation(len(ids))
        # One cycle through all of them: no question keeps its own answer.
        others = {ids[order[i]]: ids[order[(i + 1) % len(ids)]] for i in range(len(ids))}
        texts = {sample_id: (texts[sample_id][0], texts[others[sample_id]][1]) for sample_id in ids}
    checkpoints = folder / CHECKPOINTS
    ray.get(publish_base(config, str(checkpoints / "base")), timeout=120)
    queue = start_sample_queue(config.training, str(checkpoints))
    trainer = start_trainer(config, queue, str(checkpoints))
    try:
        for round, ids in enumerate(by_round):
            rows = [Completion(f"completion-{sample_id}", *texts[sample_id]) for sample_id in ids]
            put_rows(queue, checkpoints, round, rows)
        ray.get(queue.finish.remote(len(by_round)), timeout=30)
        wait_for_round(ray, queue, trainer, len(by_round) - 1, CONTROL_S)
        trainer.join(60)
    finally:
        trainer.stop(10)
        ray.kill(queue)
    return str(folder / weights_dir(len(by_round)))
