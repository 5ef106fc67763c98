"""Limits how many of an engine's requests run at a time; the others wait. Counts how many wait and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict


class SlotStats(TypedDict):
    """Counts of requests that wait for a slot; the fields are as in EngineStats."""

    num_waiting: int
    num_begun: int
    waited_s: float


class Slots:
    """At most `number` blocks run at a time, in order of arrival."""

    def __init__(self, number: int):
        self._free = asyncio.Semaphore(number)
        self._num_waiting = self._num_begun = 0
        self._waited_s = 0.0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Holds a slot while the block runs. A cancelled wait is not counted."""
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
