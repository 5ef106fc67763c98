"""RoutedModels: sends the requests of a harvest task to engines. It batches requests, picks replicas, and retries
requests that an engine's death interrupted.

It lives inside one harvest or sprout task. Requests that become ready together travel in one actor call, which costs as
much CPU time as all else about a request; answers stream back as they finish, so nothing waits for a batch. A request
whose engine failed is asked again elsewhere: generation is at-least-once, and its seed makes it the same request.

A request that was in two engines when they died may be the cause. From then on it is sent alone, with no other request
in the engine, and if that engine dies too, the request is set aside in RUN/quarantine. A request that only waited in
the queue, or was answered with the wrong weights version, is not suspected. Failures of a remote server do not count
either: the request is sent again to the replacement of that source, and if it fails there too, it alone fails, with the
server's reason.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bohdi_ray.deadlines import as_bohdi_error, is_engines_fault
from bohdi_ray.engines.routing import Replica, RoutingTable, choose
from bohdi_ray.engines.token_requests import TokenRequest
from bohdi_ray.errors import (
    SEE_LOGS,
    DeadlineExceeded,
    EngineFailed,
    EngineRetired,
    RemoteFailed,
    RequestQuarantined,
    RequestRefused,
    SourceLeftOut,
)
from bohdi_ray.records import EngineReply, EngineRequest
from bohdi_ray.run.quarantine import Case, Death, Quarantine

# Engines that died with a request in them, after which it is asked alone.
MOST_DEATHS = 2
# Calls that end without this request's answer, though the engine lives, after which the run ends: no restart helps.
MOST_UNANSWERED = 3
# Times that a remote source fails for good with a request, though it passed its health check in between, after which
# it counts as one that this source cannot serve.
MOST_REMOTE_FAILURES = 3

Waiting = tuple[EngineRequest | TokenRequest, asyncio.Future[EngineReply]]


@dataclass(frozen=True, slots=True)
class EngineClientConfig:
    """What every task of a run needs to reach the engines.

    `request_s` bounds the silence of a call, `replace_s` the wait for a replacement, both in seconds. The engine itself
    limits how long a request may take, because it knows which requests are still queued.
    """

    directory: Any
    quarantine: Quarantine
    request_s: float
    replace_s: float


@dataclass(frozen=True, slots=True)
class PresentModels:
    """`engines.models.Models` with a fixed set of sources: one piece of work uses the same set from start to end.

    If a source of the set becomes unavailable meanwhile, asking it raises SourceLeftOut.
    """

    routed: RoutedModels
    sources: tuple[str, ...]
    target: str

    def ask(self, model: str, request: EngineRequest) -> Coroutine[Any, Any, EngineReply]:
        return self.routed.ask(model, request)


class RoutedModels:
    """Reaches models by one routing table, and by newer tables after failures."""

    def __init__(self, table: RoutingTable, client_config: EngineClientConfig, rng: np.random.Generator):
        self._table, self._client_config = table, client_config
        self._rng = rng
        self._ready: dict[str, list[Waiting]] = defaultdict(list)
        self._in_flight: dict[str, int] = defaultdict(int)
        self._failed_replicas: set[str] = set()
        self._deaths: dict[str, list[Death]] = {}  # by request id
        self._unanswered: dict[str, int] = defaultdict(int)  # calls by request id
        self._remote_failures: dict[str, int] = defaultdict(int)  # the same, of remote sources that failed
        self._calls: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None

    def present(self) -> PresentModels:
        """The models that take part now."""
        return PresentModels(self, self._table.sources, self._table.target)

    async def ask(self, model: str, request: EngineRequest | TokenRequest) -> EngineReply:
        """One completion. Raises RequestQuarantined and SourceLeftOut, which concern this request alone; any other
        error means that the run cannot continue without help."""
        future: asyncio.Future[EngineReply] = asyncio.get_running_loop().create_future()
        self._put(model, (request, future))
        return await future

    def _put(self, model: str, waiting: Waiting) -> None:
        ready = self._ready[model]
        if not ready:
            asyncio.get_running_loop().call_soon(self._send, model)
        ready.append(waiting)

    def _send(self, model: str) -> None:
        """Sends all requests of one model that are ready now: one call per replica, and one for each suspect."""
        batch = [waiting for waiting in self._ready.pop(model, ()) if not waiting[1].done()]
        if not batch:
            return  # taken along by a renewal, or nobody waits any more
        if model != self._table.target and model not in self._table.sources:
            _fail(batch, SourceLeftOut(model))
            return
        replicas = tuple(r for r in self._table.replicas.get(model, ()) if r.replica_id not in self._failed_replicas)
        if not replicas:
            self._start(self._send_after_renewal(model, batch))
            return
        calls: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
        chosen = {}
        for waiting in batch:
            replica = choose(replicas, self._in_flight, self._rng)
            self._in_flight[replica.replica_id] += 1
            request_id = waiting[0].request_id
            suspect = request_id if len(self._deaths.get(request_id, ())) >= MOST_DEATHS else ""
            calls[replica.replica_id, suspect].append(waiting)
            chosen[replica.replica_id] = replica
        for (replica_id, suspect), part in calls.items():
            self._start(self._call(model, chosen[replica_id], part, bool(suspect)))

    def _start(self, call: Any) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, model: str, replica: Replica, batch: Sequence[Waiting], alone: bool) -> None:
        """One streaming call; requests that it leaves unanswered are sent again. Every waiter gets an answer or an
        error."""
        replica_id = replica.replica_id
        open_requests = {waiting[0].request_id: waiting for waiting in batch}
        requests = [waiting[0] for waiting in batch]
        inside = not alone  # a call that is to be alone says when it is; an engine may be dead before
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(self._client_config.request_s) as silence:
                run = replica.handle.run.options(num_returns="streaming")
                stream = run.remote(requests, True) if alone else run.remote(requests)
                async for reference in stream:
                    ready = await reference
                    inside = ready is not None  # else it is held at the engine's gate
                    for completion in ready or ():
                        if self._settle(model, completion, open_requests):
                            self._in_flight[replica_id] -= 1
                    silence.reschedule(asyncio.get_running_loop().time() + self._client_config.request_s)
        except TimeoutError:
            waited_for = f"a sign of life from {replica_id}, which holds {len(open_requests)} requests"
            remedy = "see its log, or raise deadlines.request_s"
            failure = DeadlineExceeded(waited_for, self._client_config.request_s, remedy)
        except Exception as error:
            failure = as_bohdi_error(error)
            inside = inside and not isinstance(failure, EngineRetired)
        self._in_flight[replica_id] -= len(open_requests)
        if not open_requests:
            return
        if failure is not None and not is_engines_fault(failure):
            # A bug: asking again would not help, and the harvests that wait must know.
            _fail(open_requests.values(), failure)
            return
        self._failed_replicas.add(replica_id)
        if not isinstance(failure, EngineRetired):
            self._client_config.directory.report.remote(replica_id)
        for waiting in open_requests.values():
            if waiting[1].done():
                continue  # nobody waits for it any more
            if failure is None:
                self._ask_again_unanswered(model, waiting, replica_id)
            elif isinstance(failure, RemoteFailed):
                self._ask_again_after_remote_failure(model, waiting, failure)
            elif inside:
                self._ask_again_after_death(model, waiting, Death(replica_id, str(failure), time.time(), alone))
            else:
                self._put(model, waiting)

    def _settle(self, model: str, completion: EngineReply, open_requests: dict[str, Waiting]) -> bool:
        """Gives an answer to its waiter; returns False for an answer made with another weights version than this
        round's."""
        if model == self._table.target and completion.weights_version != self._table.weights_version:
            return False
        _, future = open_requests.pop(completion.request_id)
        if not future.done():
            future.set_result(completion)
        return True

    def _ask_again_unanswered(self, model: str, waiting: Waiting, replica_id: str) -> None:
        request_id = waiting[0].request_id
        self._unanswered[request_id] += 1
        if self._unanswered[request_id] < MOST_UNANSWERED:
            self._put(model, waiting)
            return
        what = "ended their answers early or served other weights than this round's"
        error = f"{MOST_UNANSWERED} engines {what} for request {request_id} to {model}, the last one {replica_id}"
        _fail([waiting], EngineFailed(f"{error}; {SEE_LOGS}"))

    def _ask_again_after_remote_failure(self, model: str, waiting: Waiting, failure: RemoteFailed) -> None:
        request, future = waiting
        self._remote_failures[request.request_id] += 1
        if self._remote_failures[request.request_id] < MOST_REMOTE_FAILURES:
            self._put(model, waiting)
        else:
            refused = RequestRefused(f"{failure} ({MOST_REMOTE_FAILURES} times with this request)")
            future.set_result(EngineReply(request.request_id, model, 0, error=refused))

    def _ask_again_after_death(self, model: str, waiting: Waiting, death: Death) -> None:
        self._deaths.setdefault(waiting[0].request_id, []).append(death)
        if death.alone:
            self._start(self._set_aside(model, waiting))
        else:
            self._put(model, waiting)

    async def _set_aside(self, model: str, waiting: Waiting) -> None:
        request, future = waiting
        if isinstance(request, TokenRequest):
            # Of an evaluation, which fails with it; RUN/quarantine keeps what belongs to a ticket.
            _fail([waiting], RequestRefused(f"{MOST_DEATHS + 1} engines died with it, the last one alone"))
            return
        version = self._table.weights_version if model == self._table.target else 0
        case = Case(request, model, version, tuple(self._deaths.pop(request.request_id)))
        try:
            part = await asyncio.to_thread(self._client_config.quarantine.write, case)
        except Exception as error:  # whatever it is, nobody else would tell those who wait
            _fail([waiting], error)
            return
        if not future.done():
            future.set_exception(RequestQuarantined(request.request_id, part))

    async def _send_after_renewal(self, model: str, batch: list[Waiting]) -> None:
        """Waits for the pools to publish a new table, because this one has no replica of `model` left; then sends."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew())
        try:
            await asyncio.shield(self._renewal)
        except Exception as error:  # whatever it is, nobody else would tell those who wait
            _fail(batch, as_bohdi_error(error))
            return
        self._ready[model].extend(batch)
        self._send(model)

    async def _renew(self) -> None:
        reference = self._client_config.directory.newer_than.remote(self._table.version, self._client_config.replace_s)
        table = await reference
        if table is None:
            raise DeadlineExceeded(
                f"a replacement of {', '.join(sorted(self._failed_replicas))}",
                self._client_config.replace_s,
                f"{SEE_LOGS}; raise deadlines.start_s if it only starts slowly",
            )
        self._table = table

    async def close(self) -> None:
        """Cancels what is still running; called when the task's work is done or abandoned."""
        under_way = [*self._calls, *([self._renewal] if self._renewal else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _fail(waiting: Iterable[Waiting], error: BaseException) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)
