"""The turns of an engine's requests: so many at a time, the others wait. Counts who waits and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict


class SlotStats(TypedDict):
    """As in EngineStats."""

    num_waiting: int
    num_begun: int
    waited_s: float


class Slots:
    """At most `number` blocks run at a time, in the order in which they came."""

    def __init__(self, number: int):
        self._free = asyncio.Semaphore(number)
        self._num_waiting = self._num_begun = 0
        self._waited_s = 0.0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A slot while the block runs. A wait that is cancelled counts for nothing."""
        self._num_waiting += 1
        came = time.monotonic()
        try:
            await self._free.acquire()
        finally:
            self._num_waiting -= 1
        self._num_begun += 1
        self._waited_s += time.monotonic() - came
        try:
            yield
        finally:
            self._free.release()

    def stats(self) -> SlotStats:
        return {"num_waiting": self._num_waiting, "num_begun": self._num_begun, "waited_s": self._waited_s}
