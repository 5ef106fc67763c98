"""The real parts of a fusion: vLLM engines, DeepSpeed training, weights from disk, and the checks before a start.

Only wiring: each function turns the configuration into a Ray actor, a Ray task or a call of the responsible package.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any

import ray

from bohdi_ray.actors.engine_actor import make_engine_actor
from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import above, below
from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.evaluation.heldout_loss import FinalFigures, final_figures
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.store import ExampleStore
from bohdi_ray.names import RunNames
from bohdi_ray.placement.machines import described_nodes, nodes_of_ray
from bohdi_ray.placement.on_cpu import slow_formats
from bohdi_ray.placement.placement import placement_errors, resolve_gpus, trainer_bundles
from bohdi_ray.preflight import Findings, local_node, preflight
from bohdi_ray.run.run_dir import BASE_DIR, RunDir
from bohdi_ray.training.launch import start_trainer
from bohdi_ray.training.weights import versions

log = logging.getLogger(__name__)


def real_parts() -> ComponentFactories:
    """The components of a fusion with real models."""
    return ComponentFactories(
        preflight=check_input,
        settle=settle_on_cluster,
        make_engine=lambda config: partial(make_engine_actor, config=config),
        publish_base=publish_base,
        start_trainer=start_trainer,
        evaluate=evaluate,
        export_weights=export_weights,
    )


def check_input(config: FusionConfig, address: str | None, resume: bool) -> None:
    """Checks everything that can be checked before Ray runs. Raises ConfigErrors."""
    remote = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()
    preflight(config, None if remote else [local_node(config)], resume).raise_if_wrong()


def settle_on_cluster(config: FusionConfig) -> FusionConfig:
    """The configuration with cluster-dependent values filled in. Raises ConfigErrors if the run does not fit."""
    nodes = described_nodes(config.nodes, "nodes") if config.nodes else nodes_of_ray(ray.nodes())
    settled = resolve_gpus(config, any(node.num_gpus for node in nodes))
    Findings(problems=placement_errors(settled, nodes)).raise_if_wrong()
    for text in slow_formats(settled):
        log.warning("%s", text)
    return settled


def publish_base(config: FusionConfig, folder: str) -> Any:
    """Version 0 of the target; an ObjectRef to wait for."""
    return _task(versions.publish_base, config, "publish").remote(config.target, folder)


def evaluate(config: FusionConfig, folders: dict[int, str], run: RunDir, last_round: int) -> Any:
    """FinalFigures of these versions; an ObjectRef."""
    return _task(_evaluate, config, "evaluate").remote(config, folders, run, last_round)


def export_weights(config: FusionConfig, weights_dir: str, out_dir: str) -> Any:
    """One version in the model's own layout; an ObjectRef. `out_dir` is in the run directory, beside checkpoints/."""
    base = below(above(out_dir), BASE_DIR)
    return _task(versions.export_target, config, "export").remote(weights_dir, base, out_dir)


def _task(function: Any, config: FusionConfig, what: str) -> Any:
    """Runs with the resources of one train worker: before the trainer starts, or after it has ended."""
    resources = config.training.resources_per_worker
    options: dict[str, Any] = {"num_cpus": resources.get("CPU", 1), "num_gpus": resources.get("GPU", 0)}
    options["resources"] = dict(trainer_bundles(config)[0].resources)
    if memory := resources.get("memory"):
        options["memory"] = memory
    if config.training.label_selector:
        options["label_selector"] = config.training.label_selector
    return ray.remote(**options, max_retries=1, name=RunNames.of(config.run_dir).named(what))(function)


def _evaluate(config: FusionConfig, folders: dict[int, str], run: RunDir, last_round: int) -> FinalFigures:
    ids = SampleStore(run).heldout_ids(last_round)
    rows = ExampleStore(run, config.training.reasoning == "keep").read(ids)
    return final_figures(folders, rows, config.at(last_round))
