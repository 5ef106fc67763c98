"""Pools of engines, owned by the driver: start, watch, replace, grow, shrink, give new weights, leave out, stop.

One `EnginePools` serves a whole run. It publishes a new routing table whenever a replica appears, dies or has proved
new weights; a target replica is never in a table before it serves the weights that table names. Replacing is done
here, by a new actor that starts cold on the right weights, rather than by Ray's restarts: one path for a first start
and for a later one, on whichever node has room. A source none of whose engines can be started is left out while enough
others are there. How many replicas a pool is to have, scaler.py says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ray.exceptions import RayError

from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import all_or_none, cancelled, within
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.engines.source_availability import SourceAvailability, least_sources, pauses
from bohdi_ray.errors import SEE_LOGS, BohdiError, EngineFailed
from bohdi_ray.names import RunNames
from bohdi_ray.observe.events import Notify
from bohdi_ray.placement.pools.engine_start import MOST_STARTS, Weights, is_final, start_engine
from bohdi_ray.placement.pools.gpu_time_sharing import GpuTimeSharing
from bohdi_ray.placement.pools.placement_groups import PlacementGroups
from bohdi_ray.placement.pools.replicas import Engine, EngineMaker, Pool
from bohdi_ray.placement.pools.routing_tables import RoutingTables
from bohdi_ray.placement.pools.scaler import LoadSignal, Scaler, stats_of

log = logging.getLogger(__name__)

WATCH_EVERY_S = 2.0
Work = Coroutine[Any, Any, None]

# Between tries to take back what was given up, or to grow where there was no room: each pause twice the one before.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0


class EnginePools:
    """All engines of a run. Async; every method runs on the driver's event loop."""

    def __init__(self, config: FusionConfig, make_engine: EngineMaker, directory: Any, notify: Notify, names: RunNames):
        self._pools = {model.name: Pool(model, model is config.target) for model in (*config.sources, config.target)}
        self._sources = tuple(source.name for source in config.sources)
        self._target = config.target.name
        self._availability = SourceAvailability(self._sources, least_sources(config))
        self._notify = notify
        self._make_engine = make_engine
        self._deadlines = config.deadlines
        self._stops_short = config.harvest.shortage == "stop"
        self._names = names
        self._weights: Weights = (0, None)
        self._tables = RoutingTables(directory, self._pools, self._target, self._availability)
        self._replacing: set[str] = set()
        self._given_up: list[Pool] = []  # one entry a replica; `watch` brings them back
        self.placement_groups = PlacementGroups(config, notify)
        self.time_sharing = GpuTimeSharing(config, self._pools)
        self.load_signal = LoadSignal(config.harvest.max_staleness)
        self._scaler = Scaler(self._pools.values(), self.load_signal, self.placement_groups, notify)
        self.num_replaced = 0

    @property
    def table(self) -> RoutingTable:
        """The newest routing table."""
        return self._tables.newest

    async def start_sources(self) -> None:
        """Starts all source engines at once. Raises ConfigError, and EngineFailed when too few sources have started."""
        pools = [self._pools[name] for name in self._sources]
        await all_or_none(self._fill(pool) for pool in pools for _ in range(pool.wanted))

    async def start_target(self, version: int, weights_dir: str) -> None:
        """Starts the target's engines on published weights, which they prove before they count."""
        self._weights = (version, weights_dir)
        pool = self._pools[self._target]
        await all_or_none(self._fill(pool) for _ in range(pool.wanted))

    async def _fill(self, pool: Pool) -> None:
        """One more replica. One that cannot be started is given up for now, if the run may go on without."""
        failure = None
        with pool.one_starts():
            try:
                await self._add(pool, MOST_STARTS)
            except (BohdiError, RayError) as error:
                if not pool.may_miss_one(error, self._stops_short):
                    raise
                failure = error
        await (self._give_up(pool, failure) if failure else self._joined(pool))

    async def _give_up(self, pool: Pool, error: Exception) -> None:
        name = pool.model.name
        if pool.size >= pool.least:
            pool.wanted = pool.size
            pool.pause_growth(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        else:
            pool.num_given_up += 1
            self._given_up.append(pool)
        if pool.engines or pool.num_starting:
            role = "target" if pool.is_target else "source"
            text = f"{role} {name} continues with fewer engines for now: {error}"
            self._notify("engine_given_up", text, model=name, error=str(error))
        elif self._availability.leave_out(name, str(error)):
            await self.publish()
            left = self._availability.present
            text = f"source {name} is LEFT OUT for now, the run continues with {', '.join(left)}: {error}"
            self._notify("source_left_out", text, model=name, error=str(error), sources=left)

    async def _bring_back(self, pool: Pool) -> None:
        """Tries again and again, with growing pauses, to start a replica that was given up."""
        try:
            for pause_s in pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S):
                await asyncio.sleep(pause_s)
                try:
                    await self._add(pool, 1)
                    break
                except (BohdiError, RayError) as error:
                    log.warning("%s is still down: %s", pool.model.name, error)
                    if not pool.engines and not pool.is_target:
                        self._availability.leave_out(pool.model.name, str(error))
        finally:
            pool.num_given_up -= 1
        await self._joined(pool)

    async def _add(self, pool: Pool, most_starts: int) -> None:
        """One more replica, tried a few times. No actor and no group is left that is not in the pool."""
        for attempt in range(1, most_starts + 1):
            replica_id = f"{pool.model.name}-{pool.num_made}"
            pool.num_made += 1
            try:
                await self._start(pool, replica_id)
                return
            except (BohdiError, RayError) as error:
                if is_final(error, pool.model, pool.was_up):
                    raise
                if attempt == most_starts:
                    raise EngineFailed(
                        f"engine {replica_id} did not start after {attempt} tries; {SEE_LOGS}. The last error: {error}"
                    ) from error
                log.warning("engine %s did not start (%s); trying again", replica_id, error)

    async def _start(self, pool: Pool, replica_id: str) -> None:
        """Placement group, actor, model, weights; then it is in the pool, and the next table has it."""
        name = self._names.engine(pool.model.name, replica_id, pool.is_target)
        grows = len(pool.engines) >= pool.least
        group = await self.placement_groups.take(name, pool.bundles(replica_id), grows)
        group.actor = self._names.actor(name)
        engine = None
        try:
            async with self.time_sharing.start():
                weights = self._weights_of(pool)
                engine = Engine(self._make_engine(pool.model, replica_id, *weights, group), group)
                handle, now = engine.handle, lambda: self._weights_of(pool)
                await start_engine(pool.model, replica_id, handle, weights, now, self._deadlines)
                pool.engines[replica_id] = engine
        except BaseException:
            if engine is not None:
                engine.kill()
            group.give_back()
            raise

    async def _joined(self, pool: Pool) -> None:
        pool.was_up, pool.num_short = True, 0
        name = pool.model.name
        back = self._availability.take_back(name)
        await self.publish()
        if back:
            text = f"source {name} is available again"
            self._notify("source_back", text, model=name, sources=self._availability.present)

    def _weights_of(self, pool: Pool) -> Weights:
        return self._weights if pool.is_target else (0, None)

    async def publish(self) -> None:
        """Makes the present replicas known, in this process and to running tasks."""
        await self._tables.publish(self._weights[0])

    async def load_weights(self, version: int, weights_dir: str) -> list[Any]:
        """Every target replica loads and proves committed weights; one that fails or is late is replaced.

        Called between harvest rounds only. Returns the replicas' load reports.
        """
        before, self._weights = self._weights[0], (version, weights_dir)
        self.time_sharing.begin_harvest()  # an engine that may start now starts on these
        if version == before:
            return []
        pool = self._pools[self._target]

        async def load(replica_id: str, engine: Engine) -> Any:
            try:
                return await within(
                    engine.handle.load_weights.remote(version, weights_dir),
                    self._deadlines.weights_s,
                    f"{replica_id} to load weights version {version}",
                    "raise deadlines.weights_s",
                )
            except (BohdiError, RayError) as error:
                log.warning("%s did not take weights version %d (%s); it is replaced", replica_id, version, error)
                await self._replace(pool, replica_id)
                return None

        reports = await asyncio.gather(*(load(*item) for item in list(pool.engines.items())))
        await self.publish()
        return [report for report in reports if report is not None]

    async def watch(self) -> None:
        """Looks after every replica until cancelled. Consumes: health answers, reports of harvest tasks. Produces:
        routing tables. Waits for: answers, with deadlines; a replica that is slow to start or end blocks no other.
        Raises when a replica of the target cannot be replaced or too few sources are left: a run must not starve."""
        care: dict[str, asyncio.Task[None]] = {}  # by replica id, or by what is done
        reported: set[str] = set()
        num_works = 0

        def take_care(name: str, work: Work) -> asyncio.Task[None]:
            nonlocal num_works
            num_works += 1
            task = care[f"{name}, {num_works}" if name in care else name] = asyncio.ensure_future(work)
            return task

        try:
            while True:
                await asyncio.sleep(WATCH_EVERY_S)
                for name in [name for name, task in care.items() if task.done()]:
                    if not (task := care.pop(name)).cancelled():
                        task.result()
                reported |= await self._tables.reports()
                for pool in self._pools.values():
                    for replica_id, engine in pool.engines.items():
                        if replica_id not in care:
                            take_care(replica_id, self._check(pool, replica_id, engine.handle, replica_id in reported))
                            reported.discard(replica_id)
                    self._resize(pool, take_care)
                while self._given_up:
                    take_care("given up", self._bring_back(self._given_up.pop()))
                if "scaling" not in care:
                    take_care("scaling", self._scaler.look())
                await self._tables.tell()
        finally:
            await cancelled(care.values())

    def _resize(self, pool: Pool, take_care: Callable[[str, Work], asyncio.Task[None]]) -> None:
        """Begins what brings the pool to the size it is to have."""
        pool.growing = [task for task in pool.growing if not task.done()]
        pool.growing += [take_care("grows", self._fill(pool)) for _ in range(pool.wanted - pool.size)]
        surplus = max(pool.size - pool.wanted, 0)
        ended = pool.growing[::-1][:surplus]
        for task in ended:
            task.cancel()
        for replica_id in pool.least_loaded()[: surplus - len(ended)]:
            take_care("drains", self._retire(pool, replica_id, pool.engines.pop(replica_id)))

    async def _retire(self, pool: Pool, replica_id: str, engine: Engine) -> None:
        """Ends a replica that is not needed: no new requests, those it has get the time that any request has."""
        pool.num_draining += 1
        try:
            await self.publish()
            await engine.drain(self._deadlines.request_s, replica_id)
        finally:
            engine.kill()
            pool.num_draining -= 1

    async def _check(self, pool: Pool, replica_id: str, handle: Any, reported: bool) -> None:
        try:
            if reported:
                raise EngineFailed(f"{replica_id} gave no usable answer to some requests; it is replaced")
            await within(handle.health.remote(), self._deadlines.idle_s, f"{replica_id}'s health", "it is replaced")
        except (BohdiError, RayError) as error:
            log.warning("engine %s failed: %s", replica_id, error)
            await self._replace(pool, replica_id)

    async def _replace(self, pool: Pool, replica_id: str) -> None:
        if replica_id in self._replacing or replica_id not in pool.engines:
            return
        self._replacing.add(replica_id)
        try:
            with pool.one_starts():
                pool.engines.pop(replica_id).kill()
                self.num_replaced += 1
                await self.publish()
            await self._fill(pool)
        finally:
            self._replacing.discard(replica_id)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Replicas that each pool is to have now, and those that serve, by model."""
        return {name: (pool.wanted, len(pool.engines)) for name, pool in self._pools.items()}

    async def stats(self) -> dict[str, Any]:
        """Counters of every replica that answers, by replica id."""
        found = await asyncio.gather(*(stats_of(pool, 30) for pool in self._pools.values()))
        return {name: stats for one in found for name, stats in one.items()}

    async def stop(self, at_once: bool = False) -> None:
        """Ends every engine, gently first unless `at_once`; leaves no actor and no group. May be called again."""
        engines = [engine for pool in self._pools.values() for engine in pool.engines.values()]
        await asyncio.gather(*(engine.end(at_once) for engine in engines))
        for pool in self._pools.values():
            pool.engines.clear()
