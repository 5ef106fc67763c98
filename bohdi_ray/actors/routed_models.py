"""RoutedModels: how a harvest task reaches the engines. Batches requests, picks replicas, and retries what a death
cut off.

It lives inside one harvest or sprout task and implements `harvest.models.Models`. Requests that become ready in the
same turn of the event loop travel in one actor call; answers stream back as they finish, so nothing waits for a
batch. A request whose engine failed is asked again elsewhere: generation is at-least-once, and its seed makes it the
same request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.exceptions import RayError, RayTaskError

from bohdi_ray.engines.routing import Replica, RoutingTable, choose
from bohdi_ray.errors import SEE_LOGS, DeadlineExceeded, EngineFailed
from bohdi_ray.records import Completion, EngineRequest, GenerationRequest, ScoreRequest

# A request that saw this many engines fail is taken to be what kills them.
MOST_FAILURES = 3

Waiting = tuple[EngineRequest, asyncio.Future[Completion]]


class RoutedModels:
    """The models as one routing table shows them, and its successors after failures.

    `request_s` bounds the silence of a call, `replace_s` the wait for a replacement, both in seconds. How long a
    request may take is the engine's to watch: it knows which of them wait for their turn.
    """

    def __init__(
        self, table: RoutingTable, directory: Any, request_s: float, replace_s: float, rng: np.random.Generator
    ):
        self._table, self._directory = table, directory
        self._request_s, self._replace_s = request_s, replace_s
        self._rng = rng
        self._ready: dict[str, list[Waiting]] = defaultdict(list)
        self._in_flight: dict[str, int] = defaultdict(int)
        self._failed_replicas: set[str] = set()
        self._failures: dict[str, int] = defaultdict(int)
        self._calls: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources in use."""
        return self._table.sources

    @property
    def target(self) -> str:
        """Name of the target."""
        return self._table.target

    async def generate(self, model: str, request: GenerationRequest) -> Completion:
        """One completion. Raises EngineFailed or DeadlineExceeded when the run cannot go on without help."""
        return await self._ask(model, request)

    async def score(self, model: str, request: ScoreRequest) -> Completion:
        """The likelihood of a given answer; raises as `generate`."""
        return await self._ask(model, request)

    async def _ask(self, model: str, request: EngineRequest) -> Completion:
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        waiting = self._ready[model]
        if not waiting:
            asyncio.get_running_loop().call_soon(self._send, model)
        waiting.append((request, future))
        return await future

    def _send(self, model: str) -> None:
        """Sends all requests of one model that are ready now, one call per replica."""
        if not (batch := self._ready.pop(model, [])):
            return  # taken along by a renewal
        replicas = tuple(r for r in self._table.replicas.get(model, ()) if r.replica_id not in self._failed_replicas)
        if not replicas:
            self._start(self._send_after_renewal(model, batch))
            return
        by_replica: dict[str, list[Waiting]] = defaultdict(list)
        chosen = {}
        for waiting in batch:
            replica = choose(replicas, self._in_flight, self._rng)
            self._in_flight[replica.replica_id] += 1
            by_replica[replica.replica_id].append(waiting)
            chosen[replica.replica_id] = replica
        for replica_id, part in by_replica.items():
            self._start(self._call(model, chosen[replica_id], part))

    def _start(self, call: Any) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, model: str, replica: Replica, batch: Sequence[Waiting]) -> None:
        """One streaming call; what it leaves unanswered is asked again. Every waiter gets an answer or an error."""
        open_requests = {request.request_id: (request, future) for request, future in batch}
        failure: BaseException = EngineFailed(
            f"{replica.replica_id} ended its answer early, or served other weights than this round's"
        )
        try:
            async with asyncio.timeout(self._request_s) as silence:
                stream = replica.handle.run.options(num_returns="streaming").remote([r for r, _ in batch])
                async for reference in stream:
                    for completion in await reference:
                        if self._settle(model, completion, open_requests):
                            self._in_flight[replica.replica_id] -= 1
                    silence.reschedule(asyncio.get_running_loop().time() + self._request_s)
        except TimeoutError:
            waited_for = f"a sign of life from {replica.replica_id}, which holds {len(open_requests)} requests"
            failure = DeadlineExceeded(waited_for, self._request_s, "see its log, or raise deadlines.request_s")
        except Exception as error:
            failure = as_bohdi_error(error)
        self._in_flight[replica.replica_id] -= len(open_requests)
        if not open_requests:
            return
        if not is_engines_fault(failure):
            # RemoteFailed and the like, or a bug: asking again would not help, and the harvests that wait must know.
            self._fail(open_requests, failure)
            return
        self._failed_replicas.add(replica.replica_id)
        self._directory.report.remote(replica.replica_id)
        self._ask_again(model, open_requests, failure)

    def _settle(self, model: str, completion: Completion, open_requests: dict[str, Waiting]) -> bool:
        """Hands an answer to its waiter; False for one that was made with other weights than this round's."""
        if model == self._table.target and completion.weights_version != self._table.weights_version:
            return False
        _, future = open_requests.pop(completion.request_id)
        if not future.done():
            future.set_result(completion)
        return True

    def _ask_again(self, model: str, open_requests: dict[str, Waiting], failure: BaseException) -> None:
        for request, future in open_requests.values():
            self._failures[request.request_id] += 1
            if self._failures[request.request_id] < MOST_FAILURES:
                waiting = self._ready[model]
                if not waiting:
                    asyncio.get_running_loop().call_soon(self._send, model)
                waiting.append((request, future))
            elif not future.done():
                error = EngineFailed(
                    f"request {request.request_id} to {model} failed on {MOST_FAILURES} engines, last: {failure}"
                )
                error.__cause__ = failure
                future.set_exception(error)

    async def _send_after_renewal(self, model: str, batch: list[Waiting]) -> None:
        """No replica of `model` is left in this table: wait for the pools to publish another one."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew())
        try:
            await asyncio.shield(self._renewal)
        except Exception as error:  # whatever it is, nobody else would tell those who wait
            self._fail({request.request_id: (request, future) for request, future in batch}, as_bohdi_error(error))
            return
        self._ready[model].extend(batch)
        self._send(model)

    async def _renew(self) -> None:
        reference = self._directory.newer_than.remote(self._table.version, self._replace_s)
        table = await reference
        if table is None:
            raise DeadlineExceeded(
                f"a replacement of {', '.join(sorted(self._failed_replicas))}",
                self._replace_s,
                f"{SEE_LOGS}; raise deadlines.start_s if it only starts slowly",
            )
        self._table = table

    def _fail(self, open_requests: dict[str, Waiting], error: BaseException) -> None:
        for _, future in open_requests.values():
            if not future.done():
                future.set_exception(error)

    async def close(self) -> None:
        """Ends what is still under way; called when the task's work is done or given up."""
        under_way = [*self._calls, *([self._renewal] if self._renewal else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def as_bohdi_error(error: BaseException) -> BaseException:
    """The error inside Ray's wrapping, or the error itself."""
    cause = getattr(error, "cause", None)
    if isinstance(error, RayTaskError) and isinstance(cause, BaseException):
        return as_bohdi_error(cause)
    return error


def is_engines_fault(error: BaseException) -> bool:
    """Whether another replica may answer what failed with `error` (unwrapped): the engine died, hung or gave up."""
    return isinstance(error, EngineFailed | DeadlineExceeded | RayError) and not isinstance(error, RayTaskError)
