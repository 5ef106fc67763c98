"""Training whose checkpoints are on an object store: two ranks commit, another start goes on exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.config.addresses import below
from bohdi_ray.evaluation.heldout_loss import final_figures
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.node_files import plain_files
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import committed_rounds, round_dir
from bohdi_ray.training.weights.versions import export_target, publish_base


def trained(ray, config, checkpoints: str, rounds: range) -> list[dict]:
    """Metrics of some rounds, trained by one start of the trainer."""
    publish_base(config.target, below(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    try:
        metrics = []
        for round in rounds:
            put_rows(queue, checkpoints, round, some_rows(round, 6), some_rows(9, 2))
            metrics.append(wait_for_round(ray, queue, trainer, round, 240))
        ray.get(queue.finish.remote(rounds.stop), timeout=30)
        trainer.join(60)
        return metrics
    finally:
        trainer.stop(10)
        ray.kill(queue)


@pytest.mark.long(100)
@pytest.mark.timeout(600)
def test_training_goes_on_from_what_lies_on_s3_as_if_nothing_had_happened(
    ray_session, tiny_model_dir, s3_address, tmp_path
):
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True), num_workers=2, dtype="float32")
    remote, local = below(s3_address, "checkpoints"), str(tmp_path / "checkpoints")
    [first] = trained(ray_session, config, remote, range(1))
    [second] = trained(ray_session, config, remote, range(1, 2))
    whole = trained(ray_session, config, local, range(2))
    assert [m["step_losses"] for m in (first, second)] == [m["step_losses"] for m in whole]
    states = committed_rounds(remote)
    assert states == committed_rounds(local)
    assert [(s.round, s.world_size, s.num_optimizer_steps, s.has_optimizer) for s in states] == [
        (0, 2, 2, True),
        (1, 2, 4, True),
    ]
    with plain_files(round_dir(remote, 1)) as here:
        weights = [Path(folder, "weights", "model.safetensors").read_bytes() for folder in (here, round_dir(local, 1))]
    assert weights[0] == weights[1]


@pytest.mark.long(20)
@pytest.mark.timeout(120)
def test_a_version_on_s3_is_measured_and_exported_as_one_on_disk(tiny_model_dir, s3_address, tmp_path):
    from transformers import AutoModelForCausalLM

    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True))
    places = {0: s3_address, 1: str(tmp_path / "run")}
    for run in places.values():
        publish_base(config.target, below(run, "base"))
    weights = {number: below(run, "base", "weights") for number, run in places.items()}
    figures = final_figures(weights, some_rows(9, 2), config)
    assert figures.losses[0] == figures.losses[1] and figures.num_lost == {0: 0, 1: 0}
    for run in places.values():
        for _ in range(2):  # a second export replaces the first
            export_target(below(run, "base", "weights"), below(run, "base"), below(run, "target"))
    files = place_of(below(s3_address, "target")).files_below()
    assert files == sorted(["COMMIT", *place_of(below(places[1], "target")).files_below()])
    with plain_files(below(s3_address, "target")) as here:
        model = AutoModelForCausalLM.from_pretrained(here)
    assert model.config.tie_word_embeddings
