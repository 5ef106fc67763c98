"""Looks at the load of pools that may grow and shrink, and sets how many replicas each is to have.

The decision is `placement/pools/scaling.py`'s; the pools carry it out. Nothing here starts or ends anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from ray.exceptions import RayError

from bohdi_ray.config import VllmModel
from bohdi_ray.deadlines import within
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import BohdiError
from bohdi_ray.observe.events import Notify
from bohdi_ray.placement.pools.placement_groups import PlacementGroups
from bohdi_ray.placement.pools.replicas import Pool
from bohdi_ray.placement.pools.scaling import Limits, Look, Side, Tempo, decide, limiting_side

log = logging.getLogger(__name__)

TEMPO = Tempo()
STATS_S = 10.0  # for a replica to say what it does; one that is late counts as it did before


class LoadSignal:
    """What the main loop does, as far as the load follows from it. Reported by RunComponents."""

    def __init__(self, max_staleness: int):
        self._max_staleness = max_staleness
        self.round = 0
        self.waits = False  # the harvest, for the trainer
        self.limiting_side: Side = "harvest"  # of the last whole round
        self._began: float | None = None
        self._waited_s, self._waits_since = 0.0, 0.0

    def harvests(self, round: int) -> None:
        """A round's harvest begins."""
        now = time.monotonic()
        if self._began is not None:
            self.limiting_side = limiting_side(self._waited_s, now - self._began, self._max_staleness)
        self.round, self._began, self._waited_s = round, now, 0.0

    def waits_for_trainer(self) -> None:
        self.waits, self._waits_since = True, time.monotonic()

    def wait_ended(self) -> None:
        """That wait is over."""
        self.waits = False
        self._waited_s += time.monotonic() - self._waits_since


class Scaler:
    """One for all pools of a run."""

    def __init__(
        self, pools: Iterable[Pool], load_signal: LoadSignal, placement_groups: PlacementGroups, notify: Notify
    ):
        self._pools = [pool for pool in pools if _is_elastic(pool)]
        self._load_signal, self._placement_groups, self._notify = load_signal, placement_groups, notify

    async def look(self) -> None:
        """One look at every pool; sets `wanted` where the decision is another one. What cannot be seen now changes
        nothing: no size is worth the end of a run."""
        try:
            if not await self._makes_room():
                await asyncio.gather(*(self._look_at(pool) for pool in self._pools))
        except (BohdiError, RayError) as error:
            log.warning("the load of the pools could not be measured: %s", error)

    async def _makes_room(self) -> bool:
        """Takes back one engine that the load alone asked for, when what must be there finds no room; one at a time,
        for it is not known which one's room will do. Nothing grows meanwhile."""
        larger = [pool for pool in self._pools if pool.wanted > pool.least]
        if not larger or not await self._placement_groups.is_short():
            return False
        if not any(pool.num_draining for pool in self._pools):
            pool = max(larger, key=lambda pool: pool.wanted - pool.least)
            pool.wanted = max(pool.least, min(pool.wanted, pool.size) - 1)
            text = f"{pool.model.name} shrinks to {pool.wanted} engines, because required components do not fit"
            self._notify("pool_shrinks", text, model=pool.model.name, replicas=pool.wanted)
        return True

    async def _look_at(self, pool: Pool) -> None:
        assert isinstance(pool.model, VllmModel)
        before = pool.seen
        seen = {**before, **await stats_of(pool, STATS_S)}
        now = pool.seen = {name: one for name, one in seen.items() if name in pool.engines}
        in_flight = sum(stats.num_in_flight + stats.num_waiting for stats in now.values())
        begun = sum(max(0, one.num_begun - _before(before, name).num_begun) for name, one in now.items())
        waited_s = sum(max(0.0, one.waited_s - _before(before, name).waited_s) for name, one in now.items())
        if in_flight or begun:
            pool.busy_at = time.monotonic()
        replicas = pool.model.replicas
        slots = replicas.requests_per_engine or pool.model.engine.max_num_seqs
        look = Look(
            now_s=time.monotonic(),
            num_serving=len(pool.engines),
            num_starting=pool.num_starting + pool.num_given_up,
            num_draining=pool.num_draining,
            in_flight=in_flight,
            queue_wait_s=waited_s / begun if begun else 0.0,
            idle_s=0.0 if in_flight else time.monotonic() - pool.busy_at,
            limiting_side=self._load_signal.limiting_side,
            harvest_waits=self._load_signal.waits,
            round=self._load_signal.round,
        )
        decision = decide(Limits(replicas.min, replicas.max, slots), TEMPO, pool.scaling, look)
        pool.scaling = decision.state
        if decision.replicas > look.size and not await self._may_grow(pool):
            return
        if decision.reason:
            verb = "grows" if decision.replicas > pool.wanted else "shrinks"
            text = f"{pool.model.name} {verb} from {look.size} to {decision.replicas} engines: {decision.reason}"
            self._notify(f"pool_{verb}", text, model=pool.model.name, replicas=decision.replicas)
            pool.wanted = decision.replicas

    async def _may_grow(self, pool: Pool) -> bool:
        """After tries that found no room: not before a pause is over, unless there is room by now."""
        return time.monotonic() >= pool.grows_again_at or await self._placement_groups.have_room(
            pool.bundles(pool.model.name)
        )


async def stats_of(pool: Pool, seconds: float) -> dict[str, EngineStats]:
    """Counters of the pool's replicas that answer in time, by replica id."""
    asked = [(name, engine.handle.stats.remote()) for name, engine in pool.engines.items()]
    answers = await asyncio.gather(
        *(within(reference, seconds, "stats", "") for _, reference in asked), return_exceptions=True
    )
    return {name: one for (name, _), one in zip(asked, answers, strict=True) if not isinstance(one, BaseException)}


def _is_elastic(pool: Pool) -> bool:
    return isinstance(pool.model, VllmModel) and pool.model.replicas.min < pool.model.replicas.max


def _before(stats: dict[str, EngineStats], name: str) -> EngineStats:
    return stats[name] if name in stats else EngineStats(name, 0, 0, 0, 0, 0, 0.0, 0.0)
