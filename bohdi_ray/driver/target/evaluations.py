"""Evaluations during a run (`evaluate`): the target's engines are asked while they wait for the trainer.

Consumes: weights versions that the engines serve. Produces: RUN/evaluations/during, scores for ledger and observers.
Waits for: its task, with a deadline. A failure is told and ends nothing: the scores of a version are missing then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.evaluation_task import VersionScores, evaluate_version
from bohdi_ray.deadlines import cancelled, within
from bohdi_ray.driver.harvest_round import TaskContext
from bohdi_ray.driver.session import ActiveRun
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.errors import SEE_LOGS, BohdiError
from bohdi_ray.placement.machines import on_this_node

T = TypeVar("T")
LONGEST_S = 4 * 3600.0  # of one evaluation


class Evaluations:
    """The evaluations of a run. `serve` has the target's engines serve a version."""

    def __init__(
        self,
        active: ActiveRun,
        context: TaskContext,
        current_table: Callable[[], RoutingTable],
        serve: Callable[[int], Awaitable[None]],
    ):
        self._active, self._context, self._current_table, self._serve = active, context, current_table, serve
        self._tried: set[int] = set()

    def is_due(self, version: int, is_newest: bool = False) -> bool:
        """Whether this version is to be evaluated now."""
        every = self._active.config.evaluate.every
        known = version in self._active.ledger.evaluated or version in self._tried
        return bool(every) and not known and (version % every == 0 or is_newest)

    async def beside(self, training: Coroutine[Any, Any, T], version: int) -> T:
        """Waits for `training`, and for the evaluation of `version`, that of the last harvest, if it is due. Returns
        what `training` returns."""
        evaluation = asyncio.ensure_future(self._evaluated(version))
        try:
            result = await training
            trained = time.monotonic()
            found = await evaluation
        finally:
            await cancelled([evaluation])
        if found is not None:
            self._active.add_evaluated(*found, extra_s=time.monotonic() - trained)
        return result

    async def of_newest(self, version: int, watch: Coroutine[Any, Any, None]) -> None:
        """At the end of a run: its newest weights, if they are due. `watch` looks after the engines meanwhile. A stop
        that is asked for ends it, and only it."""
        if not self.is_due(version, is_newest=True):
            watch.close()
            return
        evaluation = asyncio.ensure_future(self._evaluated(version, is_newest=True))
        others = [asyncio.ensure_future(watch), asyncio.ensure_future(self._active.stop_asked.wait())]
        try:
            await asyncio.wait([evaluation, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled([evaluation, *others])
        if not evaluation.cancelled() and (found := evaluation.result()) is not None:
            self._active.add_evaluated(*found, extra_s=found[1])

    async def _evaluated(self, version: int, is_newest: bool = False) -> tuple[VersionScores, float] | None:
        """The scores of a version and the seconds it took; None if it is not due, or could not be evaluated."""
        if not self.is_due(version, is_newest):
            return None
        context, started, reference = self._context, time.monotonic(), None
        try:
            if self._current_table().weights_version != version:  # rehearsal had version 0 loaded
                await self._serve(version)
            task = evaluate_version.options(
                name=context.names.named("evaluate-version"), scheduling_strategy=on_this_node()
            )
            table = self._current_table()
            reference = task.remote(version, self._active.config, context.run, table, context.client_config)
            scores = await within(reference, LONGEST_S, f"the evaluation of version {version}", SEE_LOGS)
        except (BohdiError, RayError) as error:
            self._tried.add(version)
            self._active.observers.notify("evaluation_failed", f"version {version} could not be evaluated: {error}")
            _cancel(reference)
            return None
        except asyncio.CancelledError:
            _cancel(reference)
            raise
        return scores, time.monotonic() - started


def _cancel(reference: Any) -> None:
    """Ends the task: engines that load other weights must get no more of its requests."""
    if reference is not None:
        with contextlib.suppress(RayError):
            ray.cancel(reference, force=True)
