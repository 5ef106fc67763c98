"""CheckpointCleanup: deletes checkpoints and optimizer states that are no longer needed. Used by RunComponents."""

from __future__ import annotations

import asyncio
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import within
from bohdi_ray.errors import SEE_LOGS
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.retention import delete_checkpoints, drop_optimizers, rounds_with_optimizer
from bohdi_ray.run.run_dir import CHECKPOINTS, RunDir
from bohdi_ray.training.weights.checkpoints import clear_superseded_steps


class CheckpointCleanup:
    """Deletes on disk what the ledger says of checkpoints and the queue says of optimizer states."""

    def __init__(self, config: FusionConfig, run_dir: RunDir, ledger: RunLedger, queue: Any):
        self._config, self._run_dir, self._ledger, self._queue = config, run_dir, ledger, queue
        self._optimizers_before = -1  # the round before which none is left

    async def delete_checkpoints(self) -> None:
        """Deletes the checkpoints that nothing needs any more."""
        if not self._ledger.may_delete_checkpoints:
            return
        committed = self._run_dir.committed_rounds()
        recoverable = await asyncio.to_thread(rounds_with_optimizer, self._run_dir, committed)
        rounds = self._ledger.checkpoints_to_delete(committed, recoverable)
        await asyncio.to_thread(delete_checkpoints, self._run_dir, rounds)
        needed = not self._config.training.reset_optimizer
        await asyncio.to_thread(clear_superseded_steps, self._run_dir.address(CHECKPOINTS), needed)

    async def drop_optimizers(self) -> None:
        """Deletes all optimizer states except the one that a new start of the workers would load.

        Follows the queue's answer, not the files on disk, because workers that start now get the same answer.
        """
        status = await within(self._queue.status.remote(), 60, "the sample queue", SEE_LOGS)
        if status.resume_round > self._optimizers_before:
            committed = self._run_dir.committed_rounds()
            await asyncio.to_thread(drop_optimizers, self._run_dir, committed, status.resume_round)
            self._optimizers_before = status.resume_round
