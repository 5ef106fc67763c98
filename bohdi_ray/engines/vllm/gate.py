"""Gate: admits calls to an engine, many together or one alone. Pure asyncio; every engine actor has one.

A request that is suspected of killing engines runs alone, so that no other request is in the engine if it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bohdi_ray.engines.vllm.streaming import BEAT_S
from bohdi_ray.errors import EngineRetired
from bohdi_ray.records import EngineReply

SIGN_S = 0.2  # for the sign that a call is alone inside to reach its caller, should the engine die of it at once


class Gate:
    """For one event loop. Calls that must run alone go one after another, before any that came later."""

    def __init__(self, beat_s: float = BEAT_S, sign_s: float = SIGN_S):
        self._beat_s, self._sign_s = beat_s, sign_s
        self._num_inside = 0
        self._alone: list[object] = []  # calls that are alone or want to be; the first one is next
        self._moved = asyncio.Event()
        self._num_calls, self._closed = 0, False

    async def close(self) -> None:
        """Admits no further call; returns once the calls that were admitted or are waiting have ended."""
        self._closed = True
        while self._num_calls:
            await self._moved.wait()

    async def through(
        self, answers: AsyncIterator[list[EngineReply]], alone: bool = False
    ) -> AsyncIterator[list[EngineReply] | None]:
        """The engine's `answers`, started once the call is admitted.

        Waits for: exclusive calls that run or wait to end; with `alone` also for all running calls. While blocked it
        yields None, at once and then every `beat_s`. After a wait, and for every exclusive call, it yields [] as soon
        as it is admitted, so that the caller knows whether its requests were in the engine when that died. Unblocked
        by: another call's end, whatever ended it. Raises EngineRetired once the gate is closed.
        """
        if self._closed:
            raise EngineRetired("this engine takes no further calls")
        self._num_calls += 1
        me = object()
        if alone:
            self._alone.append(me)
        held = False
        try:
            while self._is_shut_for(me, alone):
                held = True
                yield None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._beat_s):
                        await self._moved.wait()
            self._num_inside += 1
            try:
                if held or alone:
                    yield []
                if alone:
                    await asyncio.sleep(self._sign_s)
                async for ready in answers:
                    yield ready
            finally:
                self._num_inside -= 1
        finally:
            self._num_calls -= 1
            if alone:
                self._alone.remove(me)
            # Whoever waits looks again; the next ones wait for the next move.
            self._moved.set()
            self._moved = asyncio.Event()

    def _is_shut_for(self, call: object, alone: bool) -> bool:
        if alone:
            return self._alone[0] is not call or self._num_inside > 0
        return bool(self._alone)
