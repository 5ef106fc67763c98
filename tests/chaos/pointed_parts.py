"""A small fusion that can be stopped, or made to lose a process, at a named point of every phase (`points.py`).

The points, with the process that comes to them, and whether before (-ing) or after (-ed) the effect:

    idle                                    the target's engine, before it is up; everything else waits
    walking, walked                         tree manager, in `assignment`
    sprouting, asking, answering, judging   an engine, when the first request of that kind has come
    writing, written                        harvest worker, around a part of samples
    committing, committed                   tree manager, around `commit_step`, that is around the journal's segment
    drawing, drawn                          tree manager, around `close_round`
    snapshotting                            tree manager, a snapshot written but for its COMMIT
    queueing, queued                        sample queue, around `put_round`
    stepping                                train worker, before an optimizer step
    publishing, saving                      train worker, weights or optimizer written but for their COMMIT
    reporting, reported                     sample queue, around `round_committed`
    loading                                 the target's engine, before it loads new weights

`python pointed_parts.py FOLDER ADDRESS real|scripted` is a driver of the run, in a process that can be killed.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import ray
import storm_run
from chaos_engines import PointedEngine
from pointed_actors import PointedManager, PointedQueue, pointed_write_part
from recorded_training import recorded_fit
from scripted_parts import scripted_parts

from bohdi_ray.actors import sample_queue, tree_manager
from bohdi_ray.config import FusionConfig
from bohdi_ray.driver import components, harvest_round
from bohdi_ray.driver.components import ComponentFactories
from bohdi_ray.fusion import fuse
from bohdi_ray.placement.pools.placement_groups import EngineGroup
from bohdi_ray.training import launch

ROUNDS = 3  # the last one harvests with weights that were trained
TRAINERS_POINTS = ("stepping", "publishing", "saving")


def install(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Makes this process's fusions use the actors above."""
    starts = functools.partial(tree_manager.start_tree_manager, snapshot_events=1)
    set_attribute(components, "start_tree_manager", starts)
    set_attribute(tree_manager, "TreeManagerActor", PointedManager)
    set_attribute(sample_queue, "SampleQueueActor", PointedQueue)
    set_attribute(harvest_round, "write_part", pointed_write_part)
    set_attribute(launch, "run_fit", recorded_fit)


def pointed_config(folder: str) -> FusionConfig:
    # Without rebirths the posteriors of `dynabranches` are the counts of wins and losses.
    return storm_run.storm_config(
        folder,
        rounds=ROUNDS,
        meditation={"steps": 2, "walks_per_step": 6},
        harvest={"max_tasks_in_flight": 4, "tickets_per_task": 2, "heldout_fraction": 0.2, "min_sources": 3},
        bandit={"kind": "dynabranches", "threshold": 0},
    )


def pointed_parts(folder: str, real_trainer: bool) -> ComponentFactories:
    parts = storm_run.storm_parts(folder) if real_trainer else scripted_parts(log_steps=True)

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        options = {"num_cpus": 0, "max_concurrency": 1000, **group.options()}
        return ray.remote(**options)(PointedEngine).remote(model.name, version, folder)

    return dataclasses.replace(parts, make_engine=lambda config: make_engine, settle=storm_run.settle(folder))


if __name__ == "__main__":
    install()
    fuse(pointed_config(sys.argv[1]), address=sys.argv[2], parts=pointed_parts(sys.argv[1], sys.argv[3] == "real"))
