"""Every few seconds a look at the parts of a run, for metrics and metrics.jsonl. It decides nothing and ends nothing.

Consumes: counters of engines, queue and tree. Produces: a `TelemetryReading` for `RunProgress`. Waits for: their
answers, with a deadline; what does not answer is left out of the look.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import RayError

from bohdi_ray.deadlines import within
from bohdi_ray.driver.components import RunComponents
from bohdi_ray.driver.progress import RunProgress
from bohdi_ray.errors import BohdiError
from bohdi_ray.observe.run_metrics import QueueReading, TelemetryReading
from bohdi_ray.training.feed.queue import QueueStatus

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
ANSWER_S = 30.0


async def keep_polling(components: RunComponents, progress: RunProgress) -> None:
    """Looks until cancelled. Figures are never worth the end of a run, so no failure leaves this."""
    try:
        if progress.is_resumed and (tree := await _answer(components.manager.stats.remote())) is not None:
            progress.live.goes_on(tree)
        while True:
            try:
                progress.on_look(await look_at(components))
            except Exception:
                log.warning("the parts of the run could not be looked at", exc_info=True)
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        progress.live.ends()


async def look_at(components: RunComponents) -> TelemetryReading:
    """The parts of the run as they are now."""
    engines, queue, tree, levels = await asyncio.gather(
        components.pools.stats(),
        _answer(components.queue.status.remote()),
        _answer(components.manager.stats.remote()),
        _answer(components.manager.domains_by_level.remote()),
    )
    present = components.pools.table.sources
    return TelemetryReading(
        replicas=components.pools.counts(),
        engines=engines,
        num_replaced=components.pools.num_replaced,
        sources_left_out=tuple(source.name for source in components.config.sources if source.name not in present),
        queue=None if queue is None else queue_look(queue),
        tree=tree,
        domains_by_level=levels,
    )


def queue_look(status: QueueStatus) -> QueueReading:
    """What metrics need of the queue's status."""
    return QueueReading(
        num_rows=status.num_rows_queued,
        num_steps=status.num_steps_queued,
        busy=status.busy,
        committed_version=status.last_committed_round + 1,
        attempt=status.attempt,
        incarnation=status.incarnation,
    )


async def _answer(reference: Any) -> Any:
    """What it says; None if it does not."""
    try:
        return await within(reference, ANSWER_S, "a part of the run to answer", "")
    except (BohdiError, RayError):
        return None
