"""The SampleQueue as a Ray actor: adds blocking waits, and recovers its position after a restart. It contains no rules.

Created by the driver (`start_sample_queue`); called by the driver, by Ray Data's read tasks and by the train workers.
It holds no CPU slot. When it dies, Ray restarts it. It then reads the committed rounds from disk, but the ids of later
rounds are lost, so the driver puts the rounds from `status().next_round` on again. Until then readers get NotYet and
ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from bohdi_ray.actors.control_actor_options import restarted_actor
from bohdi_ray.config import TrainingConfig
from bohdi_ray.names import RunNames
from bohdi_ray.training.feed.queue import Ended, NotYet, SampleQueue
from bohdi_ray.training.feed.steps import GlobalStep
from bohdi_ray.training.weights.checkpoints import read_metrics, resume_point, round_dir


class SampleQueueActor(SampleQueue):
    """The queue's methods, one at a time, plus methods that wait."""

    def __init__(self, training: TrainingConfig, checkpoints_dir: str):
        super().__init__(training, resume_point(checkpoints_dir, not training.reset_optimizer), uuid.uuid4().hex)
        self._checkpoints_dir = checkpoints_dir
        self._event = asyncio.Event()

    def changed(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def put_round(self, round: int, rows: Sequence[str], heldout: Sequence[str] = (), put_at: float = 0.0) -> None:
        super().put_round(round, rows, heldout, put_at or time.time())

    async def wait_step(
        self, attempt: int, world_size: int, rank: int, step: int, wait_s: float
    ) -> GlobalStep | NotYet | Ended:
        """`take`, but waits up to `wait_s` for a step that is not there yet."""
        await self._wait(lambda: not isinstance(self.take(attempt, world_size, rank, step), NotYet), wait_s)
        return self.take(attempt, world_size, rank, step)

    async def wait_at_rest(
        self, attempt: int, world_size: int, rank: int, step: int, wait_s: float
    ) -> type[GlobalStep] | type[NotYet] | type[Ended]:
        """`rest`, but waits up to `wait_s` for a step that is not there yet."""
        self.rest(attempt, world_size, rank, step)
        await self._wait(lambda: not isinstance(self.take(attempt, world_size, rank, step), NotYet), wait_s)
        return self.rest(attempt, world_size, rank, step)

    async def wait_rests(self, timeout_s: float) -> bool:
        """Whether all ranks have released their GPUs, waiting up to `timeout_s`."""
        return await self._wait(lambda: self.rests, timeout_s)

    async def wait_committed(self, round: int, timeout_s: float) -> bool:
        """Whether `round` is committed, waiting up to `timeout_s`."""
        return await self._wait(lambda: self.last_committed_round >= round, timeout_s)

    def metrics(self, round: int) -> dict[str, Any]:
        """The metrics that the trainer reported for a committed round; {} if it died before reporting."""
        return super().metrics(round) or read_metrics(round_dir(self._checkpoints_dir, round))

    async def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._event.wait()
        return condition()


def start_sample_queue(training: TrainingConfig, checkpoints_dir: str, names: RunNames | None = None) -> ActorHandle:
    """Starts the queue of a run. It continues after the newest committed round in `checkpoints_dir` (if there is none,
    from round 0)."""
    actor = ray.remote(**restarted_actor("queue", names, max_concurrency=1000))(SampleQueueActor)
    return actor.remote(training, checkpoints_dir)
