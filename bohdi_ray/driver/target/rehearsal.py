"""Rehearsal (`training.rehearsal`): questions that the target answered with certainty before the fusion stay among its
training rows.

Once a round is harvested, sources ask questions in leaves drawn from all alike, and the target's engines, which load
version 0 for the purpose, answer; sure answers become rows beside those that the bandit drew. A visit to version 0 asks
for several rounds. All are stored before the round is queued, so a run that is interrupted trains on the same ones.
Called by RunComponents.

Consumes: leaves from the TreeManager. Produces: RUN/replay, rows. Waits for: its tasks, with deadlines.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bohdi_ray.actors.rehearsal_task import rehearsal_bundle, write_rehearsal
from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import all_or_none, within
from bohdi_ray.driver.harvest_round import TaskContext
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import SEE_LOGS
from bohdi_ray.examples.rehearsal_store import RehearsalCounts, RehearsalStore
from bohdi_ray.placement.pools.engine_start import longest_replacement_s
from bohdi_ray.records import Ticket, rehearsal_ticket

T = TypeVar("T")


class Rehearsals:
    """The rehearsals of a run."""

    def __init__(self, config: FusionConfig, context: TaskContext, current_table: Callable[[], RoutingTable]):
        self._config, self._context, self._current_table = config, context, current_table
        self._store = RehearsalStore(context.run)
        self._free = asyncio.Semaphore(config.harvest.max_tasks_in_flight)

    def lacks(self, round: int) -> bool:
        """Whether `ask` must be called before the round's rows are complete."""
        return self._config.at(round).rehearsal_rows_per_round > 0 and not self._store.has(round)

    def num_tokens(self, round: int) -> int:
        """Tokens that were decoded for a round's rehearsal."""
        return self._store.figures(round).num_tokens

    async def ask(self, round: int) -> list[RehearsalCounts]:
        """Asks for the rehearsal of a round and of those after it that the same visit serves, while the target's
        engines serve version 0, and tells what came of each. The round must be closed, and the next one not begun."""
        assert self._current_table().weights_version == 0
        num_rounds = self._config.at(round).training.rehearsal.rounds_per_visit
        end = max(round + 1, min(round - round % num_rounds + num_rounds, self._config.stop.rounds))
        tickets = {one: await self._tickets(one) for one in range(round, end) if self.lacks(one)}
        size = self._config.harvest.tickets_per_task
        parts = [(one, of[start : start + size]) for one, of in tickets.items() for start in range(0, len(of), size)]
        rows: dict[int, Any] = {}  # references by bundle

        async def ask(i: int) -> None:
            rows[i] = await self._bundle(parts[i][1])

        await all_or_none(ask(i) for i in range(len(parts)))
        counts = []
        for one in reversed(tickets):  # the round that is waited for last: once it has its rows, all have theirs
            bundles = [rows[i] for i in range(len(parts)) if parts[i][0] == one]
            task = write_rehearsal.options(name=self._context.names.named("write-rehearsal"))
            writing = task.remote(self._context.run, self._context.claim, one, *bundles)
            waits_for = "a round's rehearsal to be written"
            counts.append(await within(writing, self._config.deadlines.request_s, waits_for, SEE_LOGS))
        return counts[::-1]

    async def _tickets(self, round: int) -> list[Ticket]:
        """One for each of a round's questions, in leaves that are there now."""
        config = self._config.at(round)
        number = math.ceil(config.rehearsal_rows_per_round * config.training.rehearsal.questions_per_row)
        drawing = self._context.manager.draw_leaves.remote(round, number)
        leaves = await within(drawing, config.deadlines.request_s, "TreeManager.draw_leaves", SEE_LOGS)
        return [rehearsal_ticket(round, i, path) for i, path in enumerate(leaves)]

    async def _bundle(self, tickets: list[Ticket]) -> Any:
        """A reference to the bundle's rows, once they are there."""
        context, deadlines = self._context, self._config.deadlines
        async with self._free:
            task = rehearsal_bundle.options(name=context.names.named("rehearsal"))
            rows = task.remote(tickets, context.plan, self._current_table(), context.client_config)
            seconds = 3 * (deadlines.request_s + longest_replacement_s(deadlines))
            await within(rows, seconds, "a rehearsal task", SEE_LOGS)
            return rows

    def mixed(self, round: int, drawn: Sequence[str]) -> list[str]:
        """The round's rows: those drawn, and among them, evenly, those of its rehearsal, if it has one."""
        return spread(drawn, self._store.kept_ids(round, self._config.at(round).rehearsal_rows_per_round))


def spread(rows: Sequence[T], others: Sequence[T]) -> list[T]:
    """Merges both lists, each in its order, with `others` spread evenly among `rows`.

    >>> spread(["a", "b", "c", "d"], ["x", "y"])
    ['a', 'b', 'x', 'c', 'd', 'y']
    """
    total, first, second = len(rows) + len(others), iter(rows), iter(others)
    return [
        next(second) if (i + 1) * len(others) // total > i * len(others) // total else next(first) for i in range(total)
    ]
