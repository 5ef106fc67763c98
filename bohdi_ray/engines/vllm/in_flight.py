"""Tracks the requests that vLLM is working on: since when, whether they make progress, and how long there were none."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator


class InFlight:
    """The requests in flight of one engine. Times in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._numbers = itertools.count()
        self._started_at: dict[int, float] = {}  # by our number
        self._up_since = self._last_progress = self._idle_since = clock()
        self._idle_s = 0.0

    def __len__(self) -> int:
        return len(self._started_at)

    def begin(self) -> None:
        """Called when the engine is up: idle time and uptime count from now."""
        self._up_since = self._idle_since = self._clock()

    def moved(self) -> None:
        """Records progress: a new token, or another sign that the engine works."""
        self._last_progress = self._clock()

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """Counts a request as in flight while the block runs; yields its id."""
        number, now = next(self._numbers), self._clock()
        if not self._started_at:
            self._idle_s += now - self._idle_since
            self._last_progress = now
        self._started_at[number] = now
        try:
            yield str(number)
        finally:
            del self._started_at[number]
            if not self._started_at:
                self._idle_since = self._clock()

    @property
    def idle_s(self) -> float:
        """Seconds without any request since `begin`."""
        return self._idle_s + (0.0 if self._started_at else self._clock() - self._idle_since)

    @property
    def uptime_s(self) -> float:
        return self._clock() - self._up_since

    def hangs(self, idle_s: float, request_s: float) -> str | None:
        """Why the engine counts as hung: no token for `idle_s`, or a request older than `request_s`. None if there are
        no requests or they make progress."""
        if not self._started_at:
            return None
        now = self._clock()
        if now - self._last_progress > idle_s:
            return f"hangs: {len(self)} requests and no token for {idle_s:.0f} s"
        if now - min(self._started_at.values()) > request_s:
            return f"hangs: a request is not finished after {request_s:.0f} s"
        return None
