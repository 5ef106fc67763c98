"""A whole training run: SampleQueue, Ray Data, Ray Train, DeepSpeed on gloo, committed folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import time

import psutil
import pytest
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.engines.probe import read_probe
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import committed_rounds, is_committed, round_dir
from bohdi_ray.training.weights.versions import publish_base


def num_controllers() -> int:
    """Ray Train's controllers among this session's processes."""
    found = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += "TrainController" in " ".join(child.cmdline())
    return found


@pytest.mark.timeout(600)
def test_rounds_put_one_by_one_are_trained_and_committed(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    stages = [{"rounds": 2}, {"learning_rate": 2e-3, "global_batch_size": 8}]
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True), rounds=3, stages=stages)
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    losses = []
    try:
        for round, count in ((0, 6), (1, 0), (2, 5)):
            put_rows(queue, checkpoints, round, some_rows(0, count), some_rows(9, 3))
            metrics = wait_for_round(ray, queue, trainer, round, 240)
            losses.append(metrics["heldout_loss"])
            print(round, metrics)
            assert is_committed(round_dir(checkpoints, round))
            assert metrics["num_rows"] == count and metrics["num_rejected_rows"] == 0
            assert metrics["learning_rate"] == (2e-3 if round == 2 else 1e-2)
        assert num_controllers() >= 1
        ray.get(queue.finish.remote(3), timeout=30)
        trainer.join(60)
    finally:
        trainer.stop(10)
    deadline = time.monotonic() + 30
    while num_controllers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert num_controllers() == 0, "a run that has ended leaves its controller behind"
    status = ray.get(queue.status.remote(), timeout=30)
    assert (status.num_rows_trained, status.num_rows_queued) == (11, 0)
    states = committed_rounds(checkpoints)
    assert [(s.round, s.weights_version, s.next_step, s.num_optimizer_steps) for s in states] == [
        (0, 1, 2, 2),
        (1, 2, 3, 2),
        (2, 3, 4, 1),  # a stage of its own: larger steps, counted anew
    ]
    assert losses[1] == losses[0] > losses[2]
    versions = [read_probe(os.path.join(round_dir(checkpoints, r), "probe.json")) for r in range(3)]
    assert versions[0].logprobs == versions[1].logprobs != versions[2].logprobs
    ray.kill(queue)
    shutil.rmtree(round_dir(checkpoints, 2))  # as if the trainer had died in the first round of the second stage
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    try:
        put_rows(queue, checkpoints, 2, some_rows(0, 5), some_rows(9, 3))
        assert wait_for_round(ray, queue, trainer, 2, 240)["heldout_loss"] == losses[2]
    finally:
        trainer.stop(10)
    assert read_probe(os.path.join(round_dir(checkpoints, 2), "probe.json")).logprobs == versions[2].logprobs
    ray.kill(queue)
