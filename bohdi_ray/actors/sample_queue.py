"""The SampleQueue as a Ray actor: adds waiting, and finds its place again after a restart. No rule lives here.

Created by the driver (`start_sample_queue`); called by the driver, by Ray Data's read tasks and by the train workers.
It holds no CPU slot. When it dies Ray restarts it: it reads the committed rounds from disk and has lost the rows since,
so the driver puts the rounds from `status().next_round` on again. Until then readers are told to ask again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from bohdi_ray.actors.control_actor_options import restarted_actor
from bohdi_ray.config import TrainingConfig
from bohdi_ray.names import RunNames
from bohdi_ray.records import TrainingRow
from bohdi_ray.training.feed.queue import AttemptPlan, Ended, NotYet, QueueStatus, SampleQueue
from bohdi_ray.training.feed.rejection import RoundRefused
from bohdi_ray.training.feed.steps import GlobalStep
from bohdi_ray.training.weights.checkpoints import ResumePoint, RoundState, read_metrics, resume_point, round_dir


class SampleQueueActor:
    """Thin: every call is one call of the pure queue, plus waking those who wait."""

    def __init__(self, global_batch_size: int, checkpoints_dir: str, optimizer_needed: bool):
        self._checkpoints_dir = checkpoints_dir
        resume = resume_point(checkpoints_dir, optimizer_needed)
        self._queue = SampleQueue(global_batch_size, resume, optimizer_needed, uuid.uuid4().hex)
        self._changed = asyncio.Condition()

    async def put_round(self, round: int, rows: Sequence[TrainingRow], heldout: Sequence[TrainingRow] = ()) -> None:
        """See SampleQueue.put_round."""
        self._queue.put_round(round, rows, heldout, put_at=time.time())
        await self._notify()

    async def finish(self, num_rounds: int) -> None:
        """See SampleQueue.finish."""
        self._queue.finish(num_rounds)
        await self._notify()

    async def stop(self) -> None:
        """See SampleQueue.stop."""
        self._queue.stop()
        await self._notify()

    async def plan(self, attempt: int) -> AttemptPlan:
        """See SampleQueue.plan."""
        return self._queue.plan(attempt)

    async def take(
        self, attempt: int, world_size: int, rank: int, step: int, wait_s: float
    ) -> GlobalStep | NotYet | Ended:
        """See SampleQueue.take; a step that is not there yet is waited for, at most `wait_s`."""
        await self._wait(lambda: not isinstance(self._queue.take(attempt, world_size, rank, step), NotYet), wait_s)
        return self._queue.take(attempt, world_size, rank, step)

    async def rest(
        self, attempt: int, world_size: int, rank: int, step: int, wait_s: float
    ) -> type[GlobalStep] | type[NotYet] | type[Ended]:
        """See SampleQueue.rest; a step that is not there yet is waited for, at most `wait_s`."""
        self._queue.rest(attempt, world_size, rank, step)
        await self._notify()
        await self._wait(lambda: not isinstance(self._queue.take(attempt, world_size, rank, step), NotYet), wait_s)
        return self._queue.rest(attempt, world_size, rank, step)

    async def wait_rests(self, timeout_s: float) -> bool:
        """Whether no rank holds anything of a card, waiting for it at most `timeout_s`."""
        return await self._wait(lambda: self._queue.rests, timeout_s)

    async def ack(self, attempt: int, rank: int, step: int) -> None:
        """See SampleQueue.ack."""
        self._queue.ack(attempt, rank, step)

    async def round_committed(self, state: RoundState, metrics: dict[str, Any]) -> None:
        """See SampleQueue.round_committed."""
        self._queue.round_committed(state, metrics)
        await self._notify()

    async def round_refused(self, refused: RoundRefused) -> None:
        """See SampleQueue.round_refused."""
        self._queue.round_refused(refused)

    async def step_committed(self, point: ResumePoint) -> None:
        """See SampleQueue.step_committed."""
        self._queue.step_committed(point)

    async def wait_committed(self, round: int, timeout_s: float) -> bool:
        """Whether `round` is committed, waiting for it at most `timeout_s`."""
        return await self._wait(lambda: self._queue.last_committed_round >= round, timeout_s)

    async def metrics(self, round: int) -> dict[str, Any]:
        """What the trainer reported of a committed round; {} if it died before it could."""
        return self._queue.metrics(round) or read_metrics(round_dir(self._checkpoints_dir, round))

    async def status(self) -> QueueStatus:
        """See QueueStatus."""
        return self._queue.status()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            return condition()
        return True


def start_sample_queue(training: TrainingConfig, checkpoints_dir: str, names: RunNames | None = None) -> ActorHandle:
    """The queue of a run. It goes on behind the newest committed round in `checkpoints_dir` (none: from round 0)."""
    actor = ray.remote(**restarted_actor("queue", names, max_concurrency=1000))(SampleQueueActor)
    return actor.remote(training.global_batch_size, checkpoints_dir, not training.reset_optimizer)
