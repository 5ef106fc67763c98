"""The run that a storm goes over: scripted engines, the real trainer on a tiny model in float32, everything else real.

`python storm_run.py FOLDER start|resume ADDRESS` is a driver of it, in a process of its own so that it can be killed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import recorded_training
from chaos_engines import StormEngine
from scripted_parts import NO_FAULTS, scripted_config, scripted_parts

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver import components, real_components
from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.training.launch import start_trainer

ANSWER_S = 0.1
SNAPSHOT_EVENTS = 100  # so that a small run writes snapshots of its tree, too


def job_file(run_dir: str) -> Path:
    """Where a driver says which Ray job it is, as soon as it is one."""
    return Path(f"{run_dir}-job.json")


def job_of(run_dir: str) -> str | None:
    """The Ray job of the driver that runs; None until it has joined."""
    try:
        return json.loads(job_file(run_dir).read_text())["job"]
    except FileNotFoundError:
        return None


def storm_config(run_dir: str, rounds: int, **changes: Any) -> FusionConfig:
    sections: dict[str, Any] = {
        "target": {"name": "target", "model": str(Path(run_dir).parent / "model")},
        "meditation": {"steps": 3, "walks_per_step": 8},
        "enlightenment": {"steps": 1, "rows_per_step": 12},
        "training": {
            "learning_rate": 1e-3,
            "global_batch_size": 8,
            "micro_batch_size": 4,
            "max_length": 128,
            "dtype": "float32",
            "max_failures": 1000,
        },
        # Leaving a source out would make another run of it.
        "harvest": {"max_tasks_in_flight": 4, "tickets_per_task": 2, "min_sources": 3},
        "stop": {"rounds": rounds},
        "deadlines": {"start_s": 300, "request_s": 120, "train_step_s": 300, "weights_s": 120, "drain_s": 10},
        **changes,
    }
    return scripted_config(run_dir, **sections)


def settle(run_dir: str) -> Callable[[FusionConfig], FusionConfig]:
    """The part that says which Ray job this driver is."""

    def say(config: FusionConfig) -> FusionConfig:
        writing = job_file(run_dir).with_suffix(".writing")
        writing.write_text(json.dumps({"job": ray.get_runtime_context().get_job_id(), "pid": os.getpid()}))
        os.replace(writing, job_file(run_dir))
        return resolve_gpus(config, cluster_has_gpus=False)

    return say


def storm_parts(run_dir: str, answer_s: float = ANSWER_S) -> ComponentFactories:
    """Scripted engines; trainer, published weights, measuring and export are the real ones."""

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        engine = ray.remote(num_cpus=0, max_concurrency=1000, **group.options())(StormEngine)
        return engine.remote(model.name, version, answer_s, NO_FAULTS)

    return dataclasses.replace(
        scripted_parts(),
        make_engine=lambda config: make_engine,
        settle=settle(run_dir),
        publish_base=real_components.publish_base,
        start_trainer=start_trainer,
        evaluate=real_components.evaluate,
        export_weights=real_components.export_weights,
    )


def with_snapshots() -> None:
    """This process's tree managers write snapshots often."""
    product = components.start_tree_manager
    components.start_tree_manager = functools.partial(product, snapshot_events=SNAPSHOT_EVENTS)


def make_model(folder: Path) -> None:
    """A tiny Llama in float32, so that what is trained is stored without rounding."""
    import torch
    from tiny_models import build_tiny_model
    from transformers import AutoModelForCausalLM

    build_tiny_model("llama", folder, tie_word_embeddings=True)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).save_pretrained(folder)


def drive(folder: str, how: str, address: str, rounds: int) -> None:
    with_snapshots()
    recorded_training.record_in_driver()
    fuse(storm_config(folder, rounds), resume=how == "resume", address=address, parts=storm_parts(folder))


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
