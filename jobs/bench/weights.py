"""Seconds from the end of a round's training to its weights proved live on the target's engine.

Real: DeepSpeed trainer under Ray Train, checkpoint on disk with COMMIT, vLLM engine in its actor, reload in place,
proof by probe. `sync_s` runs from the end of the last optimizer step: optimizer and weights written, COMMIT, reload,
proof.

Usage: python jobs/bench/weights.py [--model FOLDER] [--rounds 3]      last line: one JSON object
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from smoke import parse, tiny_model

ROOT = Path(__file__).parents[2]
WAIT_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="target folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=3)
    options = parse(parser, rounds=1)
    if options.smoke:
        options.model = tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, os.path.join(folder, "checkpoints"))))


def make_config(model: str, rounds: int):
    from bohdi_ray.config import FusionConfig

    engine = {
        "kv_cache_memory_bytes": 2**29,
        "gpu_memory_utilization": 0.2,
        "enforce_eager": True,
        "max_model_len": 512,
    }
    target = {"name": "target", "model": model, "engine": engine, "resources": {"num_gpus": 0, "num_cpus": 1}}
    return FusionConfig.model_validate(
        {
            "run_dir": "unused",
            "sources": [{"name": "source", "model": model}],
            "target": target,
            "enlightenment": {"steps": 1, "rows_per_step": 8},
            "training": {"learning_rate": 2e-4, "global_batch_size": 8, "max_length": 512},
            "stop": {"rounds": rounds},
        }
    )


def measure(options: argparse.Namespace, checkpoints: str) -> dict:
    import ray

    from bohdi_ray.actors.engine_actor import make_engine_actor
    from bohdi_ray.actors.sample_queue import start_sample_queue
    from bohdi_ray.config.addresses import above
    from bohdi_ray.examples.kinds import Completion
    from bohdi_ray.examples.store import ExampleStore, example_id
    from bohdi_ray.placement.pools.placement_groups import EngineGroup
    from bohdi_ray.run.run_dir import RunDir
    from bohdi_ray.studies.quickstart import prepare_models
    from bohdi_ray.training.launch import start_trainer
    from bohdi_ray.training.weights.checkpoints import version_dir
    from bohdi_ray.training.weights.versions import publish_base

    config = make_config(options.model or str(prepare_models().source_dir), options.rounds)
    publish_base(config.target, version_dir(checkpoints, 0))
    ray.init(
        "local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    weights = f"{version_dir(checkpoints, 0)}/weights"
    engine = make_engine_actor(config.target, "target-0", 0, weights, EngineGroup(), config)
    ray.get(engine.start.remote(), timeout=WAIT_S)
    queue = start_sample_queue(config.training, checkpoints)
    trainer = start_trainer(config, queue, checkpoints)
    store, rounds = ExampleStore(RunDir(above(checkpoints))), []
    for round in range(options.rounds):
        rows = [
            Completion(example_id(Completion, round, 0, i), f"What is {i}?", f"It is the number {i}. " * 8)
            for i in range(8)
        ]
        store.write(round, 0, rows)
        ray.get(queue.put_round.remote(round, [row.example_id for row in rows]), timeout=60)
        deadline = time.monotonic() + WAIT_S
        while not ray.get(queue.wait_committed.remote(round, 5.0), timeout=60):
            trainer.raise_if_dead()
            if time.monotonic() > deadline:
                raise TimeoutError(f"round {round}")
        version = round + 1
        report = ray.get(
            engine.load_weights.remote(version, f"{version_dir(checkpoints, version)}/weights"), timeout=WAIT_S
        )
        proved_at = time.time()
        metrics = ray.get(queue.metrics.remote(round), timeout=60)
        rounds.append(
            {
                "sync_s": proved_at - metrics["stepped_at"],
                "commit_s": metrics["committed_at"] - metrics["stepped_at"],
                "engine_s": proved_at - metrics["committed_at"],
                "report": repr(report),
            }
        )
    trainer.stop(30)
    ray.get(engine.stop.remote(), timeout=60)
    ray.shutdown()
    return {
        "sync_s": statistics.median(r["sync_s"] for r in rounds),
        "worst_sync_s": max(r["sync_s"] for r in rounds),
        "rounds": rounds,
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
