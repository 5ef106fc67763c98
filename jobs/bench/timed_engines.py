"""Scripted engines whose every request takes a fixed time, some at a time per replica: part of `elastic.py`.

An engine keeps the books of its slots instead of occupying threads: a request that finds all slots busy starts when the
first of them is free by those books, not when a busy machine gets round to it. So an engine is exactly as fast as it
is meant to be, and what is lost is lost on the way to it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from fakes import scripted_completion
from scripted_parts import NO_FAULTS, ScriptedEngineActor

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.engines.vllm.streaming import RunQueue, as_they_finish
from bohdi_ray.records import EngineReply, EngineRequest

MAX_CONCURRENCY = 20_000  # calls at a time in a process


@dataclass(frozen=True, slots=True)
class Speed:
    """`slots` requests at a time, each for `answer_s` seconds."""

    answer_s: float = 0.2
    slots: int = 4


class TimedEngine(ScriptedEngineActor):
    """One replica; the calls of an engine actor."""

    def __init__(self, model: str, weights_version: int, speed: Speed):
        super().__init__(model, weights_version, 0.0, NO_FAULTS)
        self._speed = speed
        self._free_at = [0.0] * speed.slots  # a heap; event loop time, s
        self._num_inside = self._num_begun = 0
        self._waited_s = 0.0

    async def _answers(self, requests: Sequence[EngineRequest]) -> AsyncIterator[list[EngineReply]]:
        queue: RunQueue = asyncio.Queue()
        async for ready in as_they_finish(queue, [self._answer(request) for request in requests]):
            yield ready

    async def _answer(self, request: EngineRequest) -> EngineReply:
        now = asyncio.get_running_loop().time()
        start = max(now, self._free_at[0])
        end = start + self._speed.answer_s
        heapq.heapreplace(self._free_at, end)
        self._num_inside += 1
        self._num_begun += 1
        self._waited_s += start - now
        try:
            await asyncio.sleep(end - now)
        finally:
            self._num_inside -= 1
        self._num_served += 1
        return scripted_completion(self._model, self._weights_version, request)

    async def stats(self) -> EngineStats:
        inside = min(self._num_inside, self._speed.slots)
        return EngineStats(
            self._model,
            self._weights_version,
            inside,
            self._num_served,
            0,
            0,
            idle_s=0.0,
            uptime_s=1.0,
            num_waiting=self._num_inside - inside,
            num_begun=self._num_begun,
            waited_s=self._waited_s,
        )

    async def served(self) -> int:
        """Requests answered so far."""
        return self._num_served


class EngineHost:
    """Many replicas in one process."""

    def __init__(self, model: str, num_replicas: int, speed: Speed):
        self._engines = [TimedEngine(model, 0, speed) for _ in range(num_replicas)]

    async def run(self, index: int, requests: Sequence[EngineRequest], alone: bool = False) -> Any:
        async for ready in self._engines[index].run(requests, alone):
            yield ready

    async def served(self) -> int:
        """Requests answered so far by all of them."""
        return sum([await engine.served() for engine in self._engines])


@dataclass(frozen=True, slots=True)
class Hosted:
    """The handle of one replica of a host: as much of an engine actor's as harvest tasks use."""

    host: Any
    index: int

    @property
    def run(self) -> Hosted:
        return self

    def options(self, **options: Any) -> Hosted:
        assert options == {"num_returns": "streaming"}, options
        return self

    def remote(self, *arguments: Any) -> Any:
        return self.host.run.options(num_returns="streaming").remote(self.index, *arguments)

    def end(self) -> None:
        """Ends its host, and with it all that share it. May be called again."""
        ray.kill(self.host)


def start_hosted(model: str, num_replicas: int, num_hosts: int, speed: Speed) -> list[Hosted]:
    """Handles of engines that share `num_hosts` processes."""
    per_host = -(-num_replicas // num_hosts)
    host = ray.remote(num_cpus=0, max_concurrency=MAX_CONCURRENCY)(EngineHost)
    hosts = [host.remote(model, per_host, speed) for _ in range(num_hosts)]
    ray.get([host.served.remote() for host in hosts], timeout=300)
    return [Hosted(hosts[i % num_hosts], i // num_hosts) for i in range(num_replicas)]
