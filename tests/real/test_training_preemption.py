"""A node that is taken away with notice costs a few steps, not the round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clean_env import clean_env
from preempted_training import NUM_ROWS
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import committed_rounds
from bohdi_ray.training.weights.versions import publish_base


@pytest.mark.long(200)
@pytest.mark.timeout(540)
def test_a_node_taken_away_with_notice_costs_a_few_steps_only(ray_session, tiny_model_dir, tmp_path):
    model = tiny_model_dir("llama", tie_word_embeddings=True)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    env = clean_env(PYTHONPATH=paths, RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S="0.5")
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    program = [sys.executable, str(here / "preempted_training.py"), str(model), str(tmp_path / "preempted")]
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    preempted = json.loads(done.stdout.splitlines()[-1])
    assert preempted["attempt"] == 2 and preempted["went_on_at"] > 3

    ray, checkpoints = ray_session, str(tmp_path / "whole")
    config = tiny_config(model, rounds=1, rows=NUM_ROWS, learning_rate=1e-3)
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    try:
        put_rows(queue, checkpoints, 0, some_rows(0, NUM_ROWS))
        whole = wait_for_round(ray, queue, trainer, 0, 180)
    finally:
        trainer.stop(10)
        ray.kill(queue)
    # All steps of the round once, each with the loss it has without the interruption.
    assert preempted["metrics"]["num_rows"] == whole["num_rows"] == NUM_ROWS
    assert preempted["metrics"]["step_losses"] == pytest.approx(whole["step_losses"], rel=1e-3)
    first, second = (committed_rounds(str(tmp_path / name))[0] for name in ("preempted", "whole"))
    assert (first.next_step, first.num_optimizer_steps) == (second.next_step, second.num_optimizer_steps)
