"""The small actors and tasks of a run that can be stopped at a point (`pointed_parts.py`).

Apart from the rest, for each is a process of its own that imports this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from points import reached, reached_async

from bohdi_ray.actors.harvest_task import write_part
from bohdi_ray.actors.sample_queue import SampleQueueActor
from bohdi_ray.actors.tree_manager import Assignment, TreeManagerActor
from bohdi_ray.config import FusionConfig


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
        super().put_round(*arguments)
        await reached_async("queued", self._run_dir)

    async def round_committed(self, *arguments: Any) -> None:
        await reached_async("reporting", self._run_dir)
        super().round_committed(*arguments)
        await reached_async("reported", self._run_dir)


@ray.remote(num_cpus=0.01, max_retries=3)
def pointed_write_part(run: Any, *arguments: Any) -> str:
    reached("writing", run.location)
    name = write_part._function(run, *arguments)
    reached("written", run.location)
    return name
