"""Scores of our engines against lm-eval's own `hf` model, and the whole command with a kill in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from engine_support import WINDOW, Running, vllm_model
from evaluation_tasks import choices, write_task, write_tasks

from bohdi_ray.evaluation.asking.answer_store import AnswerStore
from bohdi_ray.evaluation.asking.asker import Asker
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.training.weights.versions import load_tokenizer

pytest.importorskip("lm_eval")
NAMES = ["endings", "letters", "long", "rolling", "texts"]


class OneEngine:
    """An engine in this process, as an evaluation asks one."""

    def __init__(self, running: Running):
        self._running = running

    def ask(self, requests, deliver):
        deliver(list(self._running.ask(*requests).values()))


def resps(results, task):
    """What the model answered to every question of a task: [question][request]."""
    return [[resp[0] for resp in sample["resps"]] for sample in results["samples"][task]]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("family", ["qwen2", "llama"])  # without a beginning-of-text token, and with one
def test_scores_and_texts_are_those_of_lm_evals_own_model(family, tiny_model_dir, tmp_path):
    from lm_eval.models.huggingface import HFLM

    from bohdi_ray.evaluation.harness.language_model import EngineLM
    from bohdi_ray.evaluation.harness.run_tasks import run_tasks
    from bohdi_ray.evaluation.harness.tasks import load_tasks

    folder = str(tiny_model_dir(family))
    write_tasks(tmp_path / "tasks")
    tasks = load_tasks([str(tmp_path / "tasks")])
    # With our tokenizer: transformers makes another one of some folders than their tokenizer.json describes.
    tokenizer = load_tokenizer(folder)
    options = {"dtype": "float32", "device": "cpu", "batch_size": 1, "max_length": WINDOW - 2}
    theirs = HFLM(pretrained=folder, tokenizer=tokenizer, **options)
    running = Running(vllm_model(folder, dtype="float32"), folder)
    try:
        asker = Asker(OneEngine(running), AnswerStore(place_of(str(tmp_path / "a"))), lambda done, total: None)
        ours = EngineLM("tiny", tokenizer, WINDOW, asker, {})
        for chat in (False, True):
            needed, asked = asker.counts.num_needed, asker.counts.num_asked
            found, expected = (run_tasks(lm, tasks, None, None, chat, None) for lm in (ours, theirs))
            assert sorted(found["samples"]) == NAMES
            for task in ("endings", "letters", "long"):
                for one, other in zip(resps(found, task), resps(expected, task), strict=True):
                    assert [score for score, _ in one] == pytest.approx([score for score, _ in other], abs=1e-3)
                    assert [greedy for _, greedy in one] == [greedy for _, greedy in other]
            for one, other in zip(resps(found, "rolling"), resps(expected, "rolling"), strict=True):
                assert one == pytest.approx(other, rel=1e-5)
            assert resps(found, "texts") == resps(expected, "texts")
            for task in ("endings", "letters"):
                assert found["results"][task]["acc,none"] == expected["results"][task]["acc,none"]
            saved = asker.counts.num_needed - needed - (asker.counts.num_asked - asked)

            # Three letters of a question are one prefill; behind a template's line break they are two.
            assert saved >= 12 * (1 if chat else 2)
        assert asker.counts.num_cut > 0
        adds = ours.tokenization(False).adds_bos
        assert adds is (family == "llama") and theirs.tok_encode("a") == ours.tok_encode("a")
    finally:
        running.close()


def evaluate(*arguments, env, wait=True):
    command = [sys.executable, "-m", "bohdi_ray.cli", "evaluate", *map(str, arguments)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not wait:
        return process
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def answered(cache):
    lines = [line for file in cache.rglob("*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line)[0] for line in lines if line.endswith("]")]


@pytest.mark.long(80)
@pytest.mark.timeout(400)
def test_a_killed_evaluation_asks_nothing_again_that_was_answered(tiny_model_dir, tmp_path):
    folder, cache = tiny_model_dir("llama"), tmp_path / "cache"
    write_task(
        tmp_path / "tasks",
        "many",
        choices(150),
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_target="{{answer}}",
        doc_to_choice="{{choices}}",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    env = {**os.environ, "BOHDI_CACHE": str(cache)}
    arguments = [folder, "--tasks", tmp_path / "tasks", "--out", tmp_path / "out"]
    # Two requests at a time, so that a kill comes in between.
    settings = ["--set", "engine.max_model_len=256", "--set", "engine.max_num_seqs=2"]
    process = evaluate(*arguments, *settings, env=env, wait=False)
    deadline = time.monotonic() + 150
    while len(answered(cache)) < 20:
        assert time.monotonic() < deadline and process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = answered(cache)
    output = evaluate(*arguments, *settings, env=env)
    after = answered(cache)
    assert len(set(after)) == len(after) > len(before) >= 20, "nothing was asked twice"
    assert f"{len(before)} answered before" in output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    counts = summary["subjects"][0]["requests"]
    assert (counts["num_stored"], counts["num_asked"]) == (len(before), len(after) - len(before))
