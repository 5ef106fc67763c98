"""Trains one round on a node that is drained, and taken away once a step within the round is committed.

Run as a program, with a Ray cluster of several nodes of its own: MODEL_DIR CHECKPOINTS_DIR. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from training_support import put_rows, some_rows, tiny_config, wait_for_round

from bohdi_ray.actors.sample_queue import start_sample_queue
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights.checkpoints import committed_steps
from bohdi_ray.training.weights.versions import publish_base

NUM_ROWS = 800  # enough that the round is far from its end when the notice comes
DRAIN_S = 60  # until Ray takes the node for gone; this program takes it away before


def main(model_dir: str, checkpoints: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "include_dashboard": False})
    spot = cluster.add_node(num_cpus=2, resources={"trainer": 1})
    ray.init(address=cluster.address, log_to_driver=False)
    training = {"resources_per_worker": {"CPU": 1, "trainer": 1}, "max_failures": 0, "learning_rate": 1e-3}
    config = tiny_config(Path(model_dir), rounds=1, rows=NUM_ROWS, **training)
    publish_base(config.target, os.path.join(checkpoints, "base"))
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    put_rows(queue, checkpoints, 0, some_rows(0, NUM_ROWS))

    def wait_until(condition, what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            trainer.raise_if_dead()
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    wait_until(lambda: ray.get(queue.status.remote(), timeout=30).num_steps_acked >= 3, "no step was taken")
    drain = ["ray", "drain-node", "--address", cluster.address, "--node-id", spot.node_id]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    limit = ["--deadline-remaining-seconds", str(DRAIN_S)]
    subprocess.run([*drain, *reason, *limit], check=True, timeout=60, stdout=sys.stderr)
    wait_until(lambda: committed_steps(checkpoints), "no step was committed")
    cluster.remove_node(spot, allow_graceful=False)
    went_on = max(state.next_step for state in committed_steps(checkpoints))
    cluster.add_node(num_cpus=2, resources={"trainer": 1})
    metrics = wait_for_round(ray, queue, trainer, 0, 180)
    status = ray.get(queue.status.remote(), timeout=30)
    ray.get(queue.finish.remote(1), timeout=30)
    trainer.join(60)
    print(json.dumps({"went_on_at": went_on, "attempt": status.attempt, "metrics": metrics}), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
