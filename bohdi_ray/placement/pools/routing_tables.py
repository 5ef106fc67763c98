"""The routing tables that the driver's pools publish, and the directory that running tasks ask for the newest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.deadlines import within
from bohdi_ray.engines.routing import Replica, RoutingTable
from bohdi_ray.engines.source_availability import SourceAvailability
from bohdi_ray.errors import SEE_LOGS
from bohdi_ray.placement.pools.replicas import Pool

DIRECTORY_S = 60.0  # for the directory to answer, a restart included


class RoutingTables:
    """Makes tables of what serves now. One writer, the pools."""

    def __init__(self, directory: Any, pools: Mapping[str, Pool], target: str, attendance: SourceAvailability):
        self._directory, self._pools, self._target, self._availability = directory, pools, target, attendance
        self._newest: RoutingTable | None = None

    @property
    def newest(self) -> RoutingTable:
        assert self._newest is not None, "nothing serves yet"
        return self._newest

    async def publish(self, weights_version: int) -> None:
        """Makes the present replicas known, in this process and to running tasks."""
        self._newest = RoutingTable(
            version=self._newest.version + 1 if self._newest else 1,
            sources=self._availability.present,
            target=self._target,
            replicas={
                name: tuple(Replica(replica_id, engine.handle) for replica_id, engine in pool.engines.items())
                for name, pool in self._pools.items()
            },
            weights_version=weights_version,
        )
        await self.tell()

    async def tell(self) -> None:
        """Gives the directory the newest table; it may have restarted empty."""
        await within(self._directory.publish.remote(self._newest), DIRECTORY_S, "the directory", SEE_LOGS)

    async def reports(self) -> set[str]:
        """Replicas that tasks got no good answer from since the last call."""
        return await within(self._directory.take_reports.remote(), DIRECTORY_S, "the directory", SEE_LOGS)
