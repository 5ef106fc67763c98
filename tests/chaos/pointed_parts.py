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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import storm_run
from points import reached, reached_async
from recorded_training import recorded_fit
from scripted_parts import NO_FAULTS, scripted_parts
from storm_run import StormEngine

from bohdi_ray import meditation, startup
from bohdi_ray.actors import sample_queue, tree_manager
from bohdi_ray.actors.harvest_task import write_part
from bohdi_ray.actors.sample_queue import SampleQueueActor
from bohdi_ray.actors.seats import Seat
from bohdi_ray.actors.tree_manager import Assignment, TreeManagerActor
from bohdi_ray.config import FusionConfig
from bohdi_ray.fusion import fuse
from bohdi_ray.records import EngineRequest
from bohdi_ray.startup import Parts
from bohdi_ray.training import launch

PHASE_OF_ROLE = {"sprout": "sprouting", "question": "asking", "answer": "answering", "judge": "judging"}
ROUNDS = 3  # the last one harvests with weights that were trained
TRAINERS_POINTS = ("stepping", "publishing", "saving")


class PointedEngine(StormEngine):
    def __init__(self, model: str, weights_version: int, run_dir: str):
        super().__init__(model, weights_version, 0.0, NO_FAULTS)
        self._run_dir = run_dir

    async def start(self) -> None:
        if self._model == "target":
            await reached_async("idle", self._run_dir)
        await super().start()

    async def _answers(self, requests: Sequence[EngineRequest]):
        for role in sorted({request.role for request in requests}):
            await reached_async(PHASE_OF_ROLE[role], self._run_dir)
        async for answers in super()._answers(requests):
            yield answers

    async def load_weights(self, version: int, weights_dir: str) -> dict[str, Any]:
        await reached_async("loading", self._run_dir)
        return await super().load_weights(version, weights_dir)


class PointedManager(TreeManagerActor):
    def __init__(self, config: FusionConfig, seeds: Any, run: Any, *others: Any):
        super().__init__(config, seeds, run, *others)
        self._run_dir = run.location
        snapshots = self._snapshots._snapshots.run
        product_commit = snapshots.commit

        def commit(folder: str, facts: dict[str, Any]) -> None:
            reached("snapshotting", self._run_dir)
            product_commit(folder, facts)

        snapshots.commit = commit

    def assignment(self, cursor: int) -> Assignment:
        reached("walking", self._run_dir)
        assignment = super().assignment(cursor)
        if assignment.work.tickets:
            reached("walked", self._run_dir)
        return assignment

    def commit_step(self, *arguments: Any) -> None:
        reached("committing", self._run_dir)
        super().commit_step(*arguments)
        reached("committed", self._run_dir)

    def close_round(self, *arguments: Any) -> Any:
        reached("drawing", self._run_dir)
        closed = super().close_round(*arguments)
        reached("drawn", self._run_dir)
        return closed


class PointedQueue(SampleQueueActor):
    def __init__(self, global_batch_size: int, checkpoints_dir: str, *others: Any):
        super().__init__(global_batch_size, checkpoints_dir, *others)
        self._run_dir = str(Path(checkpoints_dir).parent)

    async def put_round(self, *arguments: Any) -> None:
        await reached_async("queueing", self._run_dir)
        await super().put_round(*arguments)
        await reached_async("queued", self._run_dir)

    async def round_committed(self, *arguments: Any) -> None:
        await reached_async("reporting", self._run_dir)
        await super().round_committed(*arguments)
        await reached_async("reported", self._run_dir)


@ray.remote(num_cpus=0.01, max_retries=3)
def pointed_write_part(run: Any, *arguments: Any) -> str:
    reached("writing", run.location)
    name = write_part._function(run, *arguments)
    reached("written", run.location)
    return name


def install(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Makes this process's fusions use the actors above."""
    starts = functools.partial(tree_manager.start_tree_manager, snapshot_events=1)
    set_attribute(startup, "start_tree_manager", starts)
    set_attribute(tree_manager, "TreeManagerActor", PointedManager)
    set_attribute(sample_queue, "SampleQueueActor", PointedQueue)
    set_attribute(meditation, "write_part", pointed_write_part)
    set_attribute(launch, "run_fit", recorded_fit)


def pointed_config(folder: str) -> FusionConfig:
    # Without rebirths the posteriors of `dynabranches` are the counts of wins and losses.
    return storm_run.storm_config(
        folder,
        rounds=ROUNDS,
        meditation={"steps": 2, "walks_per_step": 6},
        harvest={"max_tasks_in_flight": 4, "tickets_per_task": 2, "heldout_fraction": 0.2, "min_sources": 3},
        bandit={"policy": "dynabranches", "threshold": 0},
    )


def pointed_parts(folder: str, real_trainer: bool) -> Parts:
    parts = storm_run.storm_parts(folder) if real_trainer else scripted_parts(log_steps=True)

    def make_engine(model: Any, replica_id: str, version: int, weights_dir: str | None, seat: Seat) -> Any:
        options = {"num_cpus": 0, "max_concurrency": 1000, **seat.options()}
        return ray.remote(**options)(PointedEngine).remote(model.name, version, folder)

    return dataclasses.replace(parts, make_engine=lambda config: make_engine, settle=storm_run.settle(folder))


if __name__ == "__main__":
    install()
    fuse(pointed_config(sys.argv[1]), address=sys.argv[2], parts=pointed_parts(sys.argv[1], sys.argv[3] == "real"))
