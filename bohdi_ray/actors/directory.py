"""Directory: a small Ray actor that holds the newest routing table.

The driver's pools publish a table whenever a replica appears, dies or changes weights. Harvest tasks start with the
table they were handed and come here only after a failure, so the actor is idle in normal times. They also report the
replica that failed them, which may look healthy to the pools (it hangs for some requests, or serves other weights).
It decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray

from bohdi_ray.actors.control_actor_options import restarted_actor
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.names import RunNames


class Directory:
    def __init__(self) -> None:
        self._table: RoutingTable | None = None
        self._changed = asyncio.Condition()
        self._reported: set[str] = set()

    async def publish(self, table: RoutingTable) -> None:
        """Replaces the table; an older one than the one held is ignored."""
        async with self._changed:
            if self._table is None or table.version > self._table.version:
                self._table = table
                self._changed.notify_all()

    async def newer_than(self, version: int, wait_s: float) -> RoutingTable | None:
        """The newest table, as soon as it is newer than `version`; None if `wait_s` passes without one."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self._table is not None and self._table.version > version), wait_s
                )
            except TimeoutError:
                return None
            return self._table

    def report(self, replica_id: str) -> None:
        """Reports that a task got no usable answer from this replica and will not ask it again."""
        self._reported.add(replica_id)

    def take_reports(self) -> set[str]:
        """The replicas reported since the last call."""
        reported, self._reported = self._reported, set()
        return reported


def start_directory(names: RunNames | None = None) -> Any:
    """The directory of a run. A restarted one is empty until the pools publish again, which they do within seconds."""
    return ray.remote(**restarted_actor("directory", names, max_concurrency=1000))(Directory).remote()
