"""What dies alone does not end a training run; what cannot go on says so at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.errors import TrainingFailed
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import (
    committed_rounds,
    forget_optimizer,
    is_committed,
    optimizer_dir,
    round_dir,
)
from bohdi_ray.training.weights.versions import publish_base


def train_workers() -> list[int]:
    """Process ids of the train workers of this session: descendants of this process, by the title Ray gives them."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


@pytest.mark.long(70)  # tests/integration/test_other_failures.py kills a scripted trainer and its queue
@pytest.mark.timeout(600)
def test_a_killed_worker_and_a_killed_queue_lose_no_round_and_repeat_none(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    config = tiny_config(
        tiny_model_dir("llama", tie_word_embeddings=True), rounds=4, num_workers=2, save_optimizer_every=2
    )
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    try:
        put_rows(queue, checkpoints, 0, some_rows(0, 6))
        wait_for_round(ray, queue, trainer, 0, 240)
        first = os.stat(os.path.join(round_dir(checkpoints, 0), "COMMIT")).st_mtime_ns
        os.kill(train_workers()[-1], signal.SIGKILL)
        # Round 0 has no optimizer state: it is trained again from its recorded rows, and its folder stays.
        put_rows(queue, checkpoints, 1, some_rows(1, 5))
        wait_for_round(ray, queue, trainer, 1, 240)
        assert os.stat(os.path.join(round_dir(checkpoints, 0), "COMMIT")).st_mtime_ns == first
        before = ray.get(queue.status.remote(), timeout=30)
        assert before.attempt == 2
        optimizer = optimizer_dir(round_dir(checkpoints, 1))
        deadline = time.monotonic() + 30
        while not is_committed(optimizer) and time.monotonic() < deadline:
            time.sleep(0.1)

        ray.kill(queue, no_restart=False)
        deadline = time.monotonic() + 60
        after = before
        while after.incarnation == before.incarnation and time.monotonic() < deadline:
            after = ray.get(queue.status.remote(), timeout=60)
        assert after.incarnation != before.incarnation and after.next_round == 2
        put_rows(queue, checkpoints, 2, some_rows(2, 4))
        wait_for_round(ray, queue, trainer, 2, 240)
        ray.get(queue.finish.remote(3), timeout=30)
        trainer.join(60)
    finally:
        trainer.stop(10)
        ray.kill(queue)
    assert [(s.round, s.next_step, s.num_optimizer_steps, s.has_optimizer) for s in committed_rounds(checkpoints)] == [
        (0, 2, 2, False),
        (1, 4, 4, True),
        (2, 5, 5, False),
    ]


@pytest.mark.long(30)
@pytest.mark.timeout(200)
def test_a_trainer_that_cannot_start_raises_instead_of_starving_the_run(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True), max_failures=0)
    queue = start_sample_queue(config.training, checkpoints)  # checkpoints/base was never published
    trainer = start_trainer(config, queue, checkpoints)
    with pytest.raises(TrainingFailed):
        trainer.join(120)
    with pytest.raises(TrainingFailed):
        trainer.raise_if_dead()
    ray.kill(queue)


@pytest.mark.long(35)
@pytest.mark.timeout(200)
def test_stop_ends_a_trainer_that_waits_for_a_round(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True))
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    put_rows(queue, checkpoints, 0, some_rows(0, 4))
    wait_for_round(ray, queue, trainer, 0, 240)
    assert len(train_workers()) == 1
    trainer.stop(60)
    trainer.join(5)
    deadline = time.monotonic() + 20
    while train_workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert train_workers() == []
    ray.kill(queue)


@pytest.mark.long(60)
@pytest.mark.timeout(600)
def test_another_number_of_workers_goes_on_with_the_weights_alone(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    model = tiny_model_dir("llama", tie_word_embeddings=True)
    for round, num_workers in enumerate((1, 2)):
        config = tiny_config(model, rounds=2, num_workers=num_workers, max_failures=0)
        publish_base(config.target, os.path.join(checkpoints, "base"))
        queue = start_sample_queue(config.training, checkpoints)
        trainer = start_trainer(config, queue, checkpoints)
        try:
            put_rows(queue, checkpoints, round, some_rows(round, 6), some_rows(9, 2))
            wait_for_round(ray, queue, trainer, round, 240)
            ray.get(queue.finish.remote(round + 1), timeout=30)
            trainer.join(60)
        finally:
            trainer.stop(10)
            ray.kill(queue)
        if round == 0:
            assert forget_optimizer(checkpoints) == 0
    states = committed_rounds(checkpoints)
    assert [(s.round, s.world_size, s.num_optimizer_steps, s.has_optimizer) for s in states] == [
        (0, 1, 2, True),
        (1, 2, 4, True),
    ]


@pytest.mark.long(35)
@pytest.mark.timeout(200)
def test_nothing_is_committed_for_a_driver_that_lost_its_lease(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True), max_failures=0)
    run = RunDir.create(tmp_path / "run", config, {})
    checkpoints = run.path("checkpoints")
    publish_base(config.target, os.path.join(checkpoints, "base"))
    lost = Lease(run)
    lost.acquire()
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints, lost.claim)
    run.delete("lease.json")
    Lease(run).acquire()
    try:
        put_rows(queue, checkpoints, 0, some_rows(0, 4))
        with pytest.raises(TrainingFailed, match=r"the lease on .* was lost"):
            trainer.join(120)
    finally:
        trainer.stop(10)
        ray.kill(queue)
    assert committed_rounds(checkpoints) == []
