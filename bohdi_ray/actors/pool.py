"""Pools of engines, owned by the driver: start, watch, replace, give new weights, leave out and take back, stop.

One `EnginePools` serves a whole run. It publishes a new routing table whenever a replica appears, dies or has proved
new weights; a target replica is never in a table before it serves the weights that table names. Replacing is done
here, by a new actor that starts cold on the right weights, rather than by Ray's restarts: one path for a first start
and for a later one. A source none of whose engines can be started is left out while enough others are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.engine_start import MOST_STARTS, Weights, is_final, start_engine
from bohdi_ray.actors.waits import all_or_none, cancelled, within
from bohdi_ray.config import DeadlineConfig, OpenAIModel, VllmModel
from bohdi_ray.engines.attendance import Attendance, pauses
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.errors import SEE_LOGS, BohdiError, ConfigError, EngineFailed
from bohdi_ray.observe.notice import Notify

log = logging.getLogger(__name__)
WATCH_EVERY_S = 2.0
DIRECTORY_S = 60.0  # for the directory to answer, a restart included
STOP_S = 30.0  # for an engine to stop by itself
# Between tries to take back what was given up: each pause twice the one before.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0

# Makes the actor handle of one replica of a model; for the target it starts on (version, weights folder).
EngineMaker = Callable[[VllmModel | OpenAIModel, str, int, str | None], Any]


@dataclass(slots=True)
class Pool:
    """The replicas of one model."""

    model: VllmModel | OpenAIModel
    replicas: dict[str, Any] = field(default_factory=dict)  # handles by replica id
    num_made: int = 0
    num_starting: int = 0  # not counting tries to bring back what was given up
    was_up: bool = False

    @property
    def num_wanted(self) -> int:
        return self.model.replicas if isinstance(self.model, VllmModel) else 1


class EnginePools:
    """All engines of a run. Async; every method runs on the driver's event loop."""

    def __init__(
        self,
        sources: tuple[VllmModel | OpenAIModel, ...],
        target: VllmModel,
        make_engine: EngineMaker,
        directory: Any,
        deadlines: DeadlineConfig,
        min_sources: int,
        notify: Notify,
    ):
        self._pools = {model.name: Pool(model) for model in (*sources, target)}
        self._sources = tuple(source.name for source in sources)
        self._attendance = Attendance(self._sources, min_sources)
        self._notify = notify
        self._target = target.name
        self._make_engine = make_engine
        self._directory = directory
        self._deadlines = deadlines
        self._weights: Weights = (0, None)
        self._table_version = 0
        self._table: RoutingTable | None = None
        self._replacing: set[str] = set()
        self._given_up: list[Pool] = []  # one entry a replica; `watch` brings them back
        self.num_replaced = 0

    @property
    def table(self) -> RoutingTable:
        """The newest routing table."""
        assert self._table is not None, "start() comes first"
        return self._table

    async def start_sources(self) -> None:
        """Starts all source engines at once. Raises ConfigError, and EngineFailed when too few sources have started."""
        pools = [self._pools[name] for name in self._sources]
        await all_or_none(self._fill(pool) for pool in pools for _ in range(pool.num_wanted))

    async def start_target(self, version: int, weights_dir: str) -> None:
        """Starts the target's engines on published weights, which they prove before they count."""
        self._weights = (version, weights_dir)
        pool = self._pools[self._target]
        await all_or_none(self._fill(pool) for _ in range(pool.num_wanted))

    async def _fill(self, pool: Pool) -> None:
        """One more replica. A source's that cannot be started is given up for now, if the run may go on without."""
        pool.num_starting += 1
        try:
            await self._add(pool, MOST_STARTS)
        except (BohdiError, RayError) as error:
            settings = isinstance(error, ConfigError) and not pool.was_up
            if settings or pool.model.name == self._target:
                raise
            failure = error
        else:
            return
        finally:
            pool.num_starting -= 1
        await self._give_up(pool, failure)

    async def _give_up(self, pool: Pool, error: Exception) -> None:
        self._given_up.append(pool)
        name = pool.model.name
        if pool.replicas or pool.num_starting:
            text = f"source {name} goes on with fewer engines for now: {error}"
            self._notify("engine_given_up", text, model=name, error=str(error))
        elif self._attendance.leave_out(name, str(error)):
            await self.publish()
            left = self._attendance.present
            text = f"source {name} is LEFT OUT for now, the run goes on with {', '.join(left)}: {error}"
            self._notify("source_left_out", text, model=name, error=str(error), sources=left)

    async def _bring_back(self, pool: Pool) -> None:
        """Tries again and again, with growing pauses, to start a replica that was given up."""
        for pause_s in pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S):
            await asyncio.sleep(pause_s)
            try:
                await self._add(pool, 1)
                return
            except (BohdiError, RayError) as error:
                log.warning("%s is still down: %s", pool.model.name, error)
                if not pool.replicas:
                    self._attendance.leave_out(pool.model.name, str(error))

    async def _add(self, pool: Pool, most_starts: int) -> None:
        """One more replica, tried a few times. Whatever happens, no actor stays that is not in the pool."""
        for attempt in range(1, most_starts + 1):
            replica_id = f"{pool.model.name}-{pool.num_made}"
            pool.num_made += 1
            weights = self._weights_of(pool)
            handle = self._make_engine(pool.model, replica_id, *weights)
            try:
                await start_engine(
                    pool.model, replica_id, handle, weights, lambda: self._weights_of(pool), self._deadlines
                )
                pool.replicas[replica_id] = handle
                await self._joined(pool)
                return
            except (BohdiError, RayError) as error:
                pool.replicas.pop(replica_id, None)
                ray.kill(handle)
                if is_final(error, pool.model, pool.was_up):
                    raise
                if attempt == most_starts:
                    raise EngineFailed(
                        f"engine {replica_id} did not start after {attempt} tries; {SEE_LOGS}. The last error: {error}"
                    ) from error
                log.warning("engine %s did not start (%s); trying again", replica_id, error)
            except BaseException:
                pool.replicas.pop(replica_id, None)
                ray.kill(handle)
                raise

    async def _joined(self, pool: Pool) -> None:
        pool.was_up = True
        name = pool.model.name
        back = self._attendance.take_back(name)
        await self.publish()
        if back:
            text = f"source {name} is back, and takes part from now on"
            self._notify("source_back", text, model=name, sources=self._attendance.present)

    def _weights_of(self, pool: Pool) -> Weights:
        return self._weights if pool.model.name == self._target else (0, None)

    async def publish(self) -> None:
        """Makes the present replicas known, in this process and to running tasks."""
        self._table_version += 1
        self._table = RoutingTable(
            version=self._table_version,
            sources=self._attendance.present,
            target=self._target,
            replicas={
                name: tuple(Replica(replica_id, handle) for replica_id, handle in pool.replicas.items())
                for name, pool in self._pools.items()
            },
            weights_version=self._weights[0],
        )
        await self._tell(self._table)

    async def _tell(self, table: RoutingTable) -> None:
        await within(self._directory.publish.remote(table), DIRECTORY_S, "the directory", SEE_LOGS)

    async def load_weights(self, version: int, weights_dir: str) -> list[Any]:
        """Every target replica loads and proves committed weights; one that fails or is late is replaced.

        Called between harvest rounds only. Returns the replicas' load reports.
        """
        if version == self._weights[0]:
            return []
        self._weights = (version, weights_dir)
        pool = self._pools[self._target]

        async def load(replica_id: str, handle: Any) -> Any:
            try:
                return await within(
                    handle.load_weights.remote(version, weights_dir),
                    self._deadlines.weights_s,
                    f"{replica_id} to load weights version {version}",
                    "raise deadlines.weights_s",
                )
            except (BohdiError, RayError) as error:
                log.warning("%s did not take weights version %d (%s); it is replaced", replica_id, version, error)
                await self._replace(pool, replica_id)
                return None

        reports = await asyncio.gather(*(load(*item) for item in list(pool.replicas.items())))
        await self.publish()
        return [report for report in reports if report is not None]

    async def watch(self) -> None:
        """Looks after every replica until cancelled. Consumes health answers and the reports of harvest tasks, produces
        tables; raises when a replica of the target cannot be replaced or too few sources are left, so that the run ends
        instead of starving. A replica that takes long to replace holds up no other."""
        care: dict[str, asyncio.Task[None]] = {}  # by replica id, or by what is to be brought back
        reported: set[str] = set()
        num_given_up = 0
        try:
            while True:
                await asyncio.sleep(WATCH_EVERY_S)
                for replica_id in [replica_id for replica_id, task in care.items() if task.done()]:
                    care.pop(replica_id).result()
                reported |= await within(self._directory.take_reports.remote(), DIRECTORY_S, "the directory", SEE_LOGS)
                for pool in self._pools.values():
                    for replica_id, handle in pool.replicas.items():
                        if replica_id not in care:
                            work = self._check(pool, replica_id, handle, replica_id in reported)
                            reported.discard(replica_id)
                            care[replica_id] = asyncio.ensure_future(work)
                while self._given_up:
                    num_given_up += 1
                    work = self._bring_back(self._given_up.pop())
                    care[f"given up, {num_given_up}"] = asyncio.ensure_future(work)
                await self._tell(self.table)  # it may have restarted empty
        finally:
            await cancelled(care.values())

    async def _check(self, pool: Pool, replica_id: str, handle: Any, reported: bool) -> None:
        try:
            if reported:
                raise EngineFailed(f"{replica_id} left requests without a good answer; it is replaced")
            await within(handle.health.remote(), self._deadlines.idle_s, f"{replica_id}'s health", "it is replaced")
        except (BohdiError, RayError) as error:
            log.warning("engine %s failed: %s", replica_id, error)
            await self._replace(pool, replica_id)

    async def _replace(self, pool: Pool, replica_id: str) -> None:
        if replica_id in self._replacing or replica_id not in pool.replicas:
            return
        self._replacing.add(replica_id)
        try:
            ray.kill(pool.replicas.pop(replica_id))
            self.num_replaced += 1
            await self.publish()
            await self._fill(pool)
        finally:
            self._replacing.discard(replica_id)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Replicas wanted and up, by model."""
        return {name: (pool.num_wanted, len(pool.replicas)) for name, pool in self._pools.items()}

    async def stats(self) -> dict[str, Any]:
        """Counters of every replica that answers, by replica id."""
        items = [item for pool in self._pools.values() for item in pool.replicas.items()]
        answers = await asyncio.gather(
            *(within(handle.stats.remote(), 30, "stats", "") for _, handle in items), return_exceptions=True
        )
        return {name: s for (name, _), s in zip(items, answers, strict=True) if not isinstance(s, BaseException)}

    async def stop(self, at_once: bool = False) -> None:
        """Ends every engine, gently first unless `at_once`; leaves no actor. May be called again."""
        handles = [handle for pool in self._pools.values() for handle in pool.replicas.values()]

        async def end(handle: Any) -> None:
            try:
                with contextlib.suppress(BohdiError, RayError):
                    if not at_once:
                        await within(handle.stop.remote(), STOP_S, "an engine to stop", "it is killed")
            finally:
                ray.kill(handle)

        await asyncio.gather(*(end(handle) for handle in handles))
        for pool in self._pools.values():
            pool.replicas.clear()
