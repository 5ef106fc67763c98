"""Polls the figures of a run's components every few seconds, for its observers. It decides nothing and ends nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import RayError

from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import within
from bohdi_ray.errors import BohdiError
from bohdi_ray.observe.events import ComponentsPolled, PollingEnded, QueueFigures, TreeRestored
from bohdi_ray.observe.observers import Observers
from bohdi_ray.placement.pools.pools import EnginePools
from bohdi_ray.training.feed.queue import QueueStatus

log = logging.getLogger(__name__)

POLL_EVERY_S = 5.0
ANSWER_S = 30.0


class TelemetryPoller:
    """Consumes: counters of engines, queue and tree. Produces: a `ComponentsPolled` for the observers. Waits for: their
    answers, with a deadline; a component that does not answer is missing in the event."""

    def __init__(
        self,
        config: FusionConfig,
        pools: EnginePools,
        queue: Any,
        manager: Any,
        observers: Observers,
        is_resumed: bool = False,
    ):
        self._config, self._pools, self._queue, self._manager = config, pools, queue, manager
        self._observers, self._is_resumed = observers, is_resumed
        self._learned: set[str] = set()  # of remote sources, as reported

    async def run(self) -> None:
        """Polls until cancelled. No failure leaves this method, because figures must not end a run."""
        try:
            if self._is_resumed and (tree := await _answer(self._manager.stats.remote())) is not None:
                self._observers.tell(TreeRestored(tree))
            while True:
                try:
                    await self.poll()
                except Exception:
                    log.warning("polling the components of the run failed", exc_info=True)
                await asyncio.sleep(POLL_EVERY_S)
        finally:
            self._observers.tell(PollingEnded())

    async def poll(self) -> None:
        """Reports the current state of the components."""
        self.report(await self._read())

    def report(self, polled: ComponentsPolled) -> None:
        """Sends the event to the observers, after reporting once each thing that a remote source has learned about its
        server."""
        for stats in polled.engines.values():
            for text in stats.learned:
                if text not in self._learned:
                    self._learned.add(text)
                    self._observers.notify("source_dialect", text, model=stats.name, learned=text)
        self._observers.tell(polled)

    async def _read(self) -> ComponentsPolled:
        engines, queue, tree, levels = await asyncio.gather(
            self._pools.stats(),
            _answer(self._queue.status.remote()),
            _answer(self._manager.stats.remote()),
            _answer(self._manager.domains_by_level.remote()),
        )
        present = self._pools.table.sources
        return ComponentsPolled(
            replicas=self._pools.counts(),
            engines=engines,
            num_replaced=self._pools.num_replaced,
            sources_left_out=tuple(source.name for source in self._config.sources if source.name not in present),
            queue=None if queue is None else queue_figures(queue),
            tree=tree,
            domains_by_level=levels,
        )


def queue_figures(status: QueueStatus) -> QueueFigures:
    """The figures of the queue's status that observers need."""
    return QueueFigures(
        num_rows=status.num_rows_queued,
        num_steps=status.num_steps_queued,
        busy=status.busy,
        committed_version=status.last_committed_round + 1,
        attempt=status.attempt,
        incarnation=status.incarnation,
    )


async def _answer(reference: Any) -> Any:
    """The answer; None if none came in time."""
    try:
        return await within(reference, ANSWER_S, "a part of the run to answer", "")
    except (BohdiError, RayError):
        return None
