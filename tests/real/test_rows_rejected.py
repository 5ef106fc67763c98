"""A round of whose rows too many cannot be learned from, under the real trainer with two ranks."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.errors import RowsRejected
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import committed_rounds
from bohdi_ray.training.weights.versions import publish_base


@pytest.mark.long(100)  # tests/integration/test_nothing_learned.py asks the same of a scripted trainer
@pytest.mark.timeout(420)
def test_such_a_round_is_not_committed_and_the_driver_is_told_why(ray_session, tiny_model_dir, tmp_path):
    ray = ray_session
    checkpoints = str(tmp_path / "checkpoints")
    config = tiny_config(tiny_model_dir("llama", tie_word_embeddings=True), rounds=2, num_workers=2)
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    long = [replace(row, question="why? " * 300) for row in some_rows(7, 4)]
    empty = [replace(row, answer=" ") for row in some_rows(8, 5)]
    try:
        # 4 of 8 are as many as the setting allows; a held-out row that cannot be measured is counted.
        put_rows(queue, checkpoints, 0, [*some_rows(0, 4), *long], [*some_rows(9, 2), long[0]])
        metrics = wait_for_round(ray, queue, trainer, 0, 180)
        assert (metrics["num_rows"], metrics["rejected_rows"]) == (4, {"prompt_too_long": 4})
        assert (metrics["num_heldout_rows"], metrics["num_heldout_rejected"]) == (2, 1)
        put_rows(queue, checkpoints, 1, [*some_rows(1, 3), *long[:3], *empty])
        with pytest.raises(RowsRejected, match=r"8 of 11 .* round 1 .*5 no_answer_tokens, 3 prompt_too_long"):
            wait_for_round(ray, queue, trainer, 1, 180)
        assert [state.round for state in committed_rounds(checkpoints)] == [0]
    finally:
        trainer.stop(10)
        ray.kill(queue)
