"""Gets the answers to an evaluation's requests: from the store, else from engines, each distinct request once.

A request's id is the digest of all that it says, so equal requests are one, whoever makes them, and an answer in the
store is found by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

from bohdi_ray.engines.token_requests import (
    CompletionRequest,
    ContinuationRequest,
    NextTokenRequest,
    TokenReply,
    TokenRequest,
)
from bohdi_ray.errors import BohdiError
from bohdi_ray.evaluation.asking.answer_store import AnswerStore

Request = TypeVar("Request", ContinuationRequest, NextTokenRequest, CompletionRequest)
Deliver = Callable[[Sequence[TokenReply]], None]


class Engines(Protocol):
    """What answers requests: a pool of engines of its own, or a run's."""

    def ask(self, requests: Sequence[TokenRequest], deliver: Deliver) -> None:
        """Returns once each of these has been answered and given to `deliver`, in any order, some at a time."""
        ...


@dataclass(slots=True)
class Counts:
    """What became of an evaluation's requests; `num_needed` are lm-eval's own."""

    num_needed: int = 0
    num_asked: int = 0  # of engines
    num_stored: int = 0  # distinct ones, answered by the store
    num_cut: int = 0  # whose beginning did not fit into the model's window
    num_shared: int = 0  # needed, and answered by a prefill that another one asked for
    num_prompt_tokens: int = 0  # of those asked
    num_decoded_tokens: int = 0


class Asker:
    """Asks one model. `told` is called with the number of distinct requests answered and their whole number."""

    def __init__(self, engines: Engines, store: AnswerStore, told: Callable[[int, int], None]):
        self._engines, self._store, self._told = engines, store, told
        self.counts = Counts()

    def answers(self, requests: Sequence[TokenRequest]) -> dict[str, Any]:
        """The answer to each, by request id: `[logprob, greedy]` of a continuation, `[logprobs, most likely token]` of
        candidates, the token ids of a completion. Raises BohdiError if one of them was refused."""
        distinct = {request.request_id: request for request in requests}
        missing = [request for key, request in distinct.items() if key not in self._store]
        num_done = len(distinct) - len(missing)
        self.counts.num_stored += num_done
        self._told(num_done, len(distinct))

        def deliver(replies: Sequence[TokenReply]) -> None:
            nonlocal num_done
            refused = [reply for reply in replies if reply.error is not None]
            replies = [reply for reply in replies if reply.error is None]
            self._store.add({reply.request_id: _plain(distinct[reply.request_id], reply) for reply in replies})
            if refused:
                error = f"could not answer a request of this evaluation: {refused[0].error}"
                raise BohdiError(f"{refused[0].model} {error}")
            num_done += len(replies)
            self.counts.num_asked += len(replies)
            self.counts.num_prompt_tokens += sum(reply.num_prompt_tokens for reply in replies)
            self.counts.num_decoded_tokens += sum(reply.num_tokens for reply in replies)
            self._told(num_done, len(distinct))

        if missing:
            # Alike beginnings after one another: what an engine has read of one is in its cache for the next.
            missing.sort(key=lambda request: request.context)
            self._engines.ask(missing, deliver)
            self._store.write()
        return {key: self._store[key] for key in distinct}


def identified(request: Request) -> Request:
    """The request with its digest as id."""
    content = [type(request).__name__, asdict(replace(request, request_id=""))]
    digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=16)
    return replace(request, request_id=digest.hexdigest())


def _plain(request: TokenRequest, reply: TokenReply) -> Any:
    if isinstance(request, ContinuationRequest):
        return [reply.logprob, reply.greedy]
    if isinstance(request, CompletionRequest):
        return list(reply.token_ids)
    return [list(reply.logprobs), reply.most_likely]
