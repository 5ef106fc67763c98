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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.actors.routed_models import as_bohdi_error
from bohdi_ray.config import DeadlineConfig, OpenAIModel, VllmModel
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.errors import BohdiError, ConfigError, DeadlineExceeded, EngineFailed

log = logging.getLogger(__name__)

WATCH_EVERY_S = 2.0
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
        await self._gather(self._add(self._pools[name]) for name in self._sources for _ in range(self._num(name)))

    async def start_target(self, version: int, weights_dir: str) -> None:
        """Starts the target's engines on published weights, which they prove before they count."""
        self._weights = (version, weights_dir)
        await self._gather(self._add(self._pools[self._target]) for _ in range(self._num(self._target)))

    def _num(self, name: str) -> int:
        return self._pools[name].num_wanted

    async def _gather(self, work: Any) -> None:
        await asyncio.gather(*work)

    async def _add(self, pool: Pool) -> None:
        """One more replica, tried a few times."""
        for attempt in range(1, MOST_STARTS + 1):
            version, weights_dir = self._weights if pool.model.name == self._target else (0, None)
            replica_id = f"{pool.model.name}-{pool.num_made}"
            pool.num_made += 1
            handle = self._make_engine(pool.model, replica_id, version, weights_dir)
            try:
                await within(
                    handle.start.remote(),
                    self._deadlines.start_s,
                    f"engine {replica_id} to start",
                    "see its log in the Ray dashboard; raise deadlines.start_s if it only loads slowly",
                )
            except ConfigError:
                ray.kill(handle)
                raise
            except (BohdiError, RayError) as error:
                ray.kill(handle)
                if attempt == MOST_STARTS:
                    raise EngineFailed(f"engine {replica_id} did not start after {attempt} tries: {error}") from error
                log.warning("engine %s did not start (%s); trying again", replica_id, error)
            else:
                if pool.model.name == self._target and self._weights != (version, weights_dir):
                    # The round's weights changed while it started: prove the new ones first.
                    await within(
                        handle.load_weights.remote(*self._weights),
                        self._deadlines.weights_s,
                        "new weights",
                        "see its log",
                    )
                pool.replicas[replica_id] = handle
                await self.publish()
                return

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
        await self._directory.publish.remote(self._table)

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
        """Looks after every replica until cancelled. Consumes health answers, produces tables; raises when a replica
        cannot be replaced, so that the run ends instead of starving."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            checks = [(pool, *item) for pool in self._pools.values() for item in list(pool.replicas.items())]
            await asyncio.gather(*(self._check(*check) for check in checks))
            await self._directory.publish.remote(self.table)  # it may have restarted empty

    async def _check(self, pool: Pool, replica_id: str, handle: Any) -> None:
        try:
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

    async def stop(self) -> None:
        """Ends every engine, gently first; leaves no actor."""
        handles = [handle for pool in self._pools.values() for handle in pool.replicas.values()]

        async def end(handle: Any) -> None:
            with contextlib.suppress(BohdiError, RayError):
                await within(handle.stop.remote(), 30, "an engine to stop", "it is killed")
            ray.kill(handle)

        await asyncio.gather(*(end(handle) for handle in handles))
        for pool in self._pools.values():
            pool.replicas.clear()


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
