"""TrainingFeed: puts a harvested round's rows into the trainer's queue, and puts them again after the queue restarted.

With them go the held-out rows that are measured after the round, `training.heldout_rows_per_round` at most. Held in
memory from the close of a round until no start of the workers can need
its rows; read from the journal, the samples and RUN/replay when a run is resumed. Used by RunComponents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import within
from bohdi_ray.driver.recovered import RecoveredState
from bohdi_ray.driver.target.rehearsal import Rehearsals
from bohdi_ray.errors import SEE_LOGS
from bohdi_ray.run.run_dir import CHECKPOINTS, RunDir
from bohdi_ray.training.feed.heldout_subset import HeldoutSubset
from bohdi_ray.training.weights.checkpoints import resume_point


class TrainingFeed:
    """The rows of closed rounds, by ids: no text passes through the driver."""

    def __init__(self, config: FusionConfig, run: RunDir, queue: Any, rehearsals: Rehearsals):
        self._rehearsals = rehearsals
        self._config, self._run, self._queue = config, run, queue
        self._rows: dict[int, tuple[list[str], list[str]]] = {}  # trained on, held out; by round
        self._heldout = HeldoutSubset(config.training.heldout_rows_per_round, config.seed)

    def remember(self, recovered: RecoveredState) -> None:
        """Loads from the journal the rows of closed rounds that training may still need; a round whose rehearsal was
        not asked yet is left to the main loop."""
        resume = resume_point(self._run.address(CHECKPOINTS), not self._config.training.reset_optimizer)
        for record in recovered.closed:
            assert record.row_sample_ids is not None
            if record.round <= resume.round:
                self._heldout.add(record.heldout_ids)
            elif not self._rehearsals.lacks(record.round):
                self._rows[record.round] = self._rows_of(record.round, record.row_sample_ids, record.heldout_ids)

    @property
    def num_rounds(self) -> int:
        """Number of rounds held in memory."""
        return len(self._rows)

    async def put(self, round: int, sample_ids: Sequence[str], heldout_ids: Sequence[str]) -> int:
        """Queues a closed round: these samples, its rehearsal, and the held-out rows to measure, chosen among all
        held-out samples including the round's `heldout_ids`. Returns the number of rows to train on."""
        self._rows[round] = await asyncio.to_thread(self._rows_of, round, sample_ids, heldout_ids)
        await self.fill_queue()
        return len(self._rows[round][0])

    async def fill_queue(self) -> None:
        """Puts the closed rounds that the queue does not have. After a restart the queue has no round after its resume
        point, which is the newest committed optimizer state and may be older than the newest committed weights."""
        status = await within(self._queue.status.remote(), 60, "the sample queue", SEE_LOGS)
        for round, (rows, heldout) in sorted(self._rows.items()):
            if round <= status.resume_round:
                self._rows.pop(round, None)
            elif round >= status.next_round:
                put = self._queue.put_round.remote(round, rows, heldout)
                await within(put, 600, "the sample queue to take a round", SEE_LOGS)

    def _rows_of(
        self, round: int, sample_ids: Sequence[str], heldout_ids: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        self._heldout.add(heldout_ids)
        return self._rehearsals.mixed(round, sample_ids), self._heldout.ids()
