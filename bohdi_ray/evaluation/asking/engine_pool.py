"""Engines of one model for an evaluation: actors like those of a run, without its routing, scaling and rounds.

A replica is started when the first request needs it, and takes requests from one queue as it has room. One that fails
is replaced, and what it held is asked again elsewhere; a request that was in two engines when they died is asked alone,
and ends the evaluation if that engine dies too. Answers already given are in the store by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from bohdi_ray.config import DeadlineConfig
from bohdi_ray.deadlines import as_bohdi_error, cancelled, is_engines_fault, within
from bohdi_ray.engines.token_requests import TokenReply, TokenRequest
from bohdi_ray.errors import SEE_LOGS, BohdiError, DeadlineExceeded, EngineFailed
from bohdi_ray.evaluation.asking.asker import Deliver
from bohdi_ray.placement.pools.engine_start import MOST_STARTS, up

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 3  # to one engine, each of as many requests as it decodes together, so that it never runs out
OTHERS_S = 2.0  # for the other calls of an engine to notice that it died
MOST_FAILURES = 6  # of engines in a row without an answer; the request that they die of is named before
MOST_DEATHS = 2  # of engines with a request in them, after which it is asked alone

MakeEngine = Callable[[int], Any]  # the actor of a replica, by the number of its start


class EnginePool:
    """`make` gives the handle of an EngineActor; `at_once` is the number of requests that an engine decodes together.

    One thread; each `ask` runs an event loop of its own.
    """

    def __init__(self, make: MakeEngine, num_replicas: int, at_once: int, deadlines: DeadlineConfig):
        self._make, self.at_once, self.deadlines = make, at_once, deadlines
        self._handles: list[Any] = [None] * num_replicas
        self._num_made = 0
        self.num_replaced = 0

    def ask(self, requests: Sequence[TokenRequest], deliver: Deliver) -> None:
        """As `asker.Engines`. Raises BohdiError when the engines cannot answer."""
        asyncio.run(_Work(self, requests, deliver).done())

    def load_weights(self, version: int, weights_dir: str) -> None:
        """Engines that run take these weights and prove them; the others start on what `make` says."""
        for i, handle in enumerate(self._handles):
            if handle is not None:
                try:
                    ray.get(handle.load_weights.remote(version, weights_dir), timeout=self.deadlines.weights_s)
                except (BohdiError, RayError) as error:
                    log.warning("an engine did not take weights version %d (%s); it is started again", version, error)
                    self._drop(i)

    async def engine(self, i: int) -> Any:
        """The handle of replica `i`, started if it does not run."""
        if self._handles[i] is None:
            self._num_made += 1
            handle = self._handles[i] = self._make(self._num_made)
            try:
                await within(
                    up(handle),
                    self.deadlines.placement_s + self.deadlines.start_s,
                    "an engine to start",
                    f"{SEE_LOGS}; ask for fewer GPUs or CPUs with --set resources.num_gpus=N, or for fewer --replicas",
                )
            except BaseException:
                self._drop(i)
                raise
        return self._handles[i]

    def replace(self, i: int) -> None:
        """Ends a replica that has failed; the next request starts another."""
        self.num_replaced += 1
        self._drop(i)

    def _drop(self, i: int) -> None:
        handle, self._handles[i] = self._handles[i], None
        if handle is not None:
            ray.kill(handle)

    def others_run(self, i: int) -> bool:
        """Whether another replica than `i` is there."""
        return any(handle is not None for j, handle in enumerate(self._handles) if j != i)

    @property
    def num_replicas(self) -> int:
        return len(self._handles)

    def stop(self) -> None:
        """Ends all engines, gently first."""
        running = [(i, handle) for i, handle in enumerate(self._handles) if handle is not None]
        with contextlib.suppress(BohdiError, RayError):
            ray.get([handle.stop.remote() for _, handle in running], timeout=self.deadlines.idle_s)
        for i, _ in running:
            self._drop(i)


class _Work:
    """The requests of one `ask`, and what became of them."""

    def __init__(self, pool: EnginePool, requests: Sequence[TokenRequest], deliver: Deliver):
        self._pool, self._deliver = pool, deliver
        self._open = {request.request_id: request for request in requests}
        self._queue = deque(requests)
        self._deaths: Counter[str] = Counter()
        self._num_failed = 0  # starts and engines in a row, without an answer in between
        self._fatal: BohdiError | None = None  # a request ends whatever engine has it
        self._changed = asyncio.Event()

    async def done(self) -> None:
        """Waits for: every request's answer. Unblocked by: the answers, or the first error that another engine would
        not mend, which is raised."""
        num_useful = min(self._pool.num_replicas, max(1, -(-len(self._open) // self._pool.at_once)))
        workers = [asyncio.ensure_future(self._replica(i)) for i in range(num_useful)]
        try:
            while self._open:
                ended, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
                for worker in ended:
                    worker.result()
                workers = [worker for worker in workers if worker not in ended]
                assert workers or not self._open, "no worker is left"
        finally:
            await cancelled(workers)

    async def _replica(self, i: int) -> None:
        """Keeps one replica busy until nothing is open; replaces it when it fails."""
        while self._open:
            started = False
            try:
                handle = await self._pool.engine(i)
                started = True
                await self._busy(handle)
            except Exception as error:
                failure = self._fatal or as_bohdi_error(error)  # another call of the engine may have been noticed first
                if isinstance(failure, DeadlineExceeded) and not started and self._pool.others_run(i):
                    log.warning("%s; going on without it", failure)  # no room for it, most likely
                    return
                self._num_failed += 1
                ends = not is_engines_fault(failure) or (isinstance(failure, DeadlineExceeded) and not started)
                if ends or self._num_failed >= (MOST_FAILURES if started else MOST_STARTS):
                    raise failure from error
                log.warning("an engine failed (%s); it is started again", failure)
                self._pool.replace(i)

    async def _busy(self, handle: Any) -> None:
        calls: set[asyncio.Future[None]] = set()
        try:
            while self._open:
                while self._queue and len(calls) < CALLS_AT_ONCE:
                    calls.add(asyncio.ensure_future(self._call(handle, self._next())))
                changed = asyncio.ensure_future(self._changed.wait())
                pending: list[asyncio.Future[Any]] = [*calls, changed]
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                for call in [call for call in calls if call.done()]:
                    calls.discard(call)
                    call.result()
        finally:
            if calls:  # of an engine that died all end at once, and each tells what it held
                await asyncio.wait(calls, timeout=OTHERS_S)
            await cancelled(calls)

    def _next(self) -> list[TokenRequest]:
        """Requests for one call; a suspect is one by itself."""
        batch = [self._queue.popleft()]
        if not self._is_suspect(batch[0]):
            while self._queue and len(batch) < self._pool.at_once and not self._is_suspect(self._queue[0]):
                batch.append(self._queue.popleft())
        return batch

    def _is_suspect(self, request: TokenRequest) -> bool:
        return self._deaths[request.request_id] >= MOST_DEATHS

    async def _call(self, handle: Any, batch: list[TokenRequest]) -> None:
        """One streaming call. What it leaves unanswered goes back to the front of the queue. A suspect is alone in its
        engine, which says when it is (as in actors/routed_models.py)."""
        left = {request.request_id: request for request in batch}
        alone = self._is_suspect(batch[0])
        inside = not alone
        silence_s = self._pool.deadlines.request_s
        try:
            async with asyncio.timeout(silence_s) as silence:
                stream = handle.run.options(num_returns="streaming").remote(batch, alone)
                async for reference in stream:
                    replies: list[TokenReply] | None = await reference
                    inside = replies is not None
                    silence.reschedule(asyncio.get_running_loop().time() + silence_s)
                    if replies:
                        self._num_failed = 0
                        for reply in replies:
                            left.pop(reply.request_id, None)
                            self._open.pop(reply.request_id, None)
                        self._deliver(replies)
            if left:
                raise EngineFailed(f"an engine ended {len(left)} answers early")
        except TimeoutError:
            self._died(left)
            raise DeadlineExceeded(f"an answer of {len(left)} requests", silence_s, SEE_LOGS) from None
        except (RayError, BohdiError) as error:
            if inside and is_engines_fault(as_bohdi_error(error)):
                self._died(left)
            raise
        finally:
            self._queue.extendleft(reversed(left.values()))
            self._changed.set()
            self._changed = asyncio.Event()

    def _died(self, left: dict[str, TokenRequest]) -> None:
        for request_id in left:
            self._deaths[request_id] += 1
            if self._deaths[request_id] > MOST_DEATHS:
                self._fatal = BohdiError(
                    f"request {request_id} of this evaluation ended {self._deaths[request_id]} engines, the last one "
                    f"alone; {SEE_LOGS}; everything answered before is kept"
                )
