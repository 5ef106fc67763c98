"""Pools of engines, owned by the driver: start, watch, replace, give new weights, stop.

One `EnginePools` serves a whole run. It publishes a new routing table whenever a replica appears, dies or has proved
new weights; a target replica is never in a table before it serves the weights that table names. Replacing is done
here, by a new actor that starts cold on the right weights, rather than by Ray's restarts: one path for a first start
and for a later one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.routed_models import as_bohdi_error
from bohdi_ray.config import DeadlineConfig, OpenAIModel, VllmModel
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.errors import SEE_LOGS, BohdiError, ConfigError, DeadlineExceeded, EngineFailed

log = logging.getLogger(__name__)

WATCH_EVERY_S = 2.0
DIRECTORY_S = 60.0  # for the directory to answer, a restart included
STOP_S = 30.0  # for an engine to stop by itself
MOST_STARTS = 3  # of one replica in a row before the run gives up on it

# Makes the actor handle of one replica of a model; for the target it starts on (version, weights folder).
EngineMaker = Callable[[VllmModel | OpenAIModel, str, int, str | None], Any]


@dataclass(slots=True)
class Pool:
    """The replicas of one model."""

    model: VllmModel | OpenAIModel
    replicas: dict[str, Any] = field(default_factory=dict)  # handles by replica id
    num_made: int = 0

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
    ):
        self._pools = {model.name: Pool(model) for model in (*sources, target)}
        self._sources = tuple(source.name for source in sources)
        self._target = target.name
        self._make_engine = make_engine
        self._directory = directory
        self._deadlines = deadlines
        self._weights: tuple[int, str | None] = (0, None)
        self._table_version = 0
        self._table: RoutingTable | None = None
        self._replacing: set[str] = set()
        self.num_replaced = 0

    @property
    def table(self) -> RoutingTable:
        """The newest routing table."""
        assert self._table is not None, "start() comes first"
        return self._table

    async def start_sources(self) -> None:
        """Starts all source engines at once; raises the first error that no retry mended."""
        pools = [self._pools[name] for name in self._sources]
        await all_or_none(self._add(pool) for pool in pools for _ in range(pool.num_wanted))

    async def start_target(self, version: int, weights_dir: str) -> None:
        """Starts the target's engines on published weights, which they prove before they count."""
        self._weights = (version, weights_dir)
        pool = self._pools[self._target]
        await all_or_none(self._add(pool) for _ in range(pool.num_wanted))

    async def _add(self, pool: Pool) -> None:
        """One more replica, tried a few times. Whatever happens, no actor stays that is not in the pool."""
        for attempt in range(1, MOST_STARTS + 1):
            replica_id = f"{pool.model.name}-{pool.num_made}"
            pool.num_made += 1
            weights = self._weights_of(pool)
            handle = self._make_engine(pool.model, replica_id, *weights)
            try:
                await self._start(pool, replica_id, handle, weights)
                pool.replicas[replica_id] = handle
                await self.publish()
                return
            except (BohdiError, RayError) as error:
                pool.replicas.pop(replica_id, None)
                ray.kill(handle)
                if isinstance(error, ConfigError | DeadlineExceeded):
                    raise  # trying again would end no better, or as late
                if attempt == MOST_STARTS:
                    raise EngineFailed(
                        f"engine {replica_id} did not start after {attempt} tries; {SEE_LOGS}. The last error: {error}"
                    ) from error
                log.warning("engine %s did not start (%s); trying again", replica_id, error)
            except BaseException:
                pool.replicas.pop(replica_id, None)
                ray.kill(handle)
                raise

    async def _start(self, pool: Pool, replica_id: str, handle: Any, weights: tuple[int, str | None]) -> None:
        """Returns once the engine is up, the target's on the weights of now."""
        await within(
            handle.__ray_ready__.remote(),
            self._deadlines.placement_s,
            f"Ray to find room for engine {replica_id}",
            "`bohdi plan --address` says what does not fit; free resources, or raise deadlines.placement_s",
        )
        await within(
            handle.start.remote(),
            self._deadlines.start_s,
            f"engine {replica_id} to start",
            f"{SEE_LOGS}; raise deadlines.start_s if it only loads slowly",
        )
        while weights != (weights := self._weights_of(pool)):
            # The round's weights changed while it started: prove the new ones first.
            await within(
                handle.load_weights.remote(*weights),
                self._deadlines.weights_s,
                f"{replica_id} to load weights version {weights[0]}",
                "raise deadlines.weights_s",
            )

    def _weights_of(self, pool: Pool) -> tuple[int, str | None]:
        return self._weights if pool.model.name == self._target else (0, None)

    async def publish(self) -> None:
        """Makes the present replicas known, in this process and to running tasks."""
        self._table_version += 1
        self._table = RoutingTable(
            version=self._table_version,
            sources=self._sources,
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
        tables; raises when a replica cannot be replaced, so that the run ends instead of starving. A replica that takes
        long to replace holds up no other."""
        care: dict[str, asyncio.Task[None]] = {}  # by replica id
        reported: set[str] = set()
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
            await self._add(pool)
        finally:
            self._replacing.discard(replica_id)

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


async def all_or_none(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Runs all to their end; the first failure ends the others, and is raised once they have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancelled(tasks)


async def cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels what still runs and waits for its end; its errors are dropped."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def within(reference: Awaitable[Any], seconds: float, waited_for: str, remedy: str) -> Any:
    """The value of a Ray reference, with a deadline; errors of ours come out of Ray's wrapping."""
    try:
        return await asyncio.wait_for(_value(reference), seconds)
    except TimeoutError:
        raise DeadlineExceeded(waited_for, seconds, remedy) from None
    except RayError as error:
        unwrapped = as_bohdi_error(error)
        if isinstance(unwrapped, BohdiError):
            raise unwrapped from error
        raise


async def _value(reference: Awaitable[Any]) -> Any:
    return await reference
