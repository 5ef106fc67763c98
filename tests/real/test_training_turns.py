"""A trainer that shares its card: nothing of it is loaded before a round's rows are there, nor when it starts again."""

from __future__ import annotations

import os
import signal

import pytest
from test_training_failures import train_workers
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.versions import publish_base


@pytest.mark.long(80)
@pytest.mark.timeout(600)
def test_the_trainer_rests_until_its_turn_and_again_after_it(ray_session, tiny_model_dir, tmp_path):
    """Without version 0 in its place it cannot be loaded, so a trainer that rests there has not."""
    ray = ray_session
    base, away = tmp_path / "checkpoints" / "base", tmp_path / "away"
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True))
    config = config.model_copy(update={"placement": "colocate"})
    publish_base(config.target, str(base))
    base.rename(away)
    queue = start_sample_queue(config.training, str(base.parent))
    trainer = start_trainer(config, queue, str(base.parent))

    def rests() -> bool:
        return ray.get(queue.wait_rests.remote(60), timeout=90)

    try:
        assert rests()
        os.kill(train_workers()[-1], signal.SIGKILL)
        while ray.get(queue.status.remote(), timeout=30).attempt < 2:
            trainer.raise_if_dead()
        assert rests()
        away.rename(base)
        losses = []
        for round in (0, 1):
            put_rows(queue, base.parent, round, some_rows(0, 6), some_rows(9, 3))
            metrics = wait_for_round(ray, queue, trainer, round, 240)
            losses.append(metrics["heldout_loss"])
            assert rests()
        assert losses[1] < losses[0]
        assert metrics["seconds"]["switching"] > 0
        ray.get(queue.stop.remote(), timeout=30)
        trainer.join(60)
    finally:
        trainer.stop(10)
        ray.kill(queue)
