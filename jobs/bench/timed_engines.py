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

from bohdi_ray.engines.streaming import RunQueue, as_they_finish
from bohdi_ray.records import Completion, EngineRequest

MAX_CONCURRENCY = 1_000


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
        self._in_flight = 0

    async def _answers(self, requests: Sequence[EngineRequest]) -> AsyncIterator[list[Completion]]:
        queue: RunQueue = asyncio.Queue()
        async for ready in as_they_finish(queue, [self._answer(request) for request in requests]):
            yield ready

    async def _answer(self, request: EngineRequest) -> Completion:
        loop = asyncio.get_running_loop()
        end = max(loop.time(), self._free_at[0]) + self._speed.answer_s
        heapq.heapreplace(self._free_at, end)
        self._in_flight += 1
        try:
            await asyncio.sleep(end - loop.time())
        finally:
            self._in_flight -= 1
        self._num_served += 1
        return scripted_completion(self._model, self._weights_version, request)


class EngineHost:
    """Many replicas in one process."""

    def __init__(self, model: str, num_replicas: int, speed: Speed):
        self._engines = [TimedEngine(model, 0, speed) for _ in range(num_replicas)]

    async def run(self, index: int, requests: Sequence[EngineRequest], alone: bool = False) -> Any:
        async for ready in self._engines[index].run(requests, alone):
            yield ready

    async def served(self) -> int:
        """Requests answered so far by all of them."""
        return sum(engine._num_served for engine in self._engines)


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


def start_replicas(model: str, num_replicas: int, speed: Speed) -> list[Any]:
    """Handles of engines of their own process each."""
    engine = ray.remote(num_cpus=0, max_concurrency=MAX_CONCURRENCY)(TimedEngine)
    handles = [engine.remote(model, 0, speed) for _ in range(num_replicas)]
    ray.get([handle.start.remote() for handle in handles], timeout=300)
    return handles


def start_hosted(model: str, num_replicas: int, num_hosts: int, speed: Speed) -> list[Hosted]:
    """Handles of engines that share `num_hosts` processes."""
    per_host = -(-num_replicas // num_hosts)
    host = ray.remote(num_cpus=0, max_concurrency=20 * MAX_CONCURRENCY)(EngineHost)
    hosts = [host.remote(model, per_host, speed) for _ in range(num_hosts)]
    ray.get([host.served.remote() for host in hosts], timeout=300)
    return [Hosted(hosts[i % num_hosts], i // num_hosts) for i in range(num_replicas)]
