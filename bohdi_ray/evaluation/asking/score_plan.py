"""Which requests give the log-probabilities of many continuations, with as few prefills as possible. Pure.

vLLM reads no prefix cache for a prompt's own log-probabilities, so every answer of a multiple-choice question would be
a prefill of its whole context. Where the answers of one context differ in their last token alone, all of them come from
a single prefill of what is before it, which reads the cache: letters are such answers, and with a chat template whose
prompt ends in a line break, so are letters behind that line break, for lm-eval gives the break to the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bohdi_ray.engines.token_requests import MAX_CANDIDATES, ContinuationRequest, NextTokenRequest, TokenRequest
from bohdi_ray.evaluation.asking.asker import identified

Tokens = tuple[int, ...]
Pair = tuple[Tokens, Tokens]  # context and continuation, neither empty


@dataclass(frozen=True, slots=True)
class _NextToken:
    """A token, in the answer to a request for several of one context."""

    request: TokenRequest
    place: int
    token: int


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """The distinct requests, and what each pair's score is the sum of."""

    requests: tuple[TokenRequest, ...]
    parts: Mapping[Pair, Sequence[ContinuationRequest | _NextToken]]

    def score(self, pair: Pair, answers: Mapping[str, Any]) -> tuple[float, bool]:
        """Log-probability of the continuation and whether each of its tokens is the most likely one, from the answers
        by request id (`Asker.answers`)."""
        total, greedy = 0.0, True
        for part in self.parts[pair]:
            if isinstance(part, _NextToken):
                logprobs, most_likely = answers[part.request.request_id]
                logprob, is_greedy = logprobs[part.place], most_likely == part.token
            else:
                logprob, is_greedy = answers[part.request_id]
            total, greedy = total + logprob, greedy and is_greedy
        return total, greedy


def score_plan(pairs: Iterable[Pair]) -> ScorePlan:
    """The plan for these pairs."""
    distinct = list(dict.fromkeys(pairs))
    last: dict[Pair, dict[int, None]] = defaultdict(dict)  # last tokens of the continuations that are alike before
    for context, continuation in distinct:
        last[context, continuation[:-1]][continuation[-1]] = None
    pieces: dict[Pair, list[Pair]] = {}
    for context, continuation in distinct:
        before = continuation[:-1]
        if before and len(last[context, before]) > 1:
            pieces[context, continuation] = [(context, before), (context + before, continuation[-1:])]
        else:
            pieces[context, continuation] = [(context, continuation)]
    wanted: dict[Tokens, dict[int, None]] = defaultdict(dict)  # single tokens by what is before them
    for context, continuation in (piece for some in pieces.values() for piece in some):
        if len(continuation) == 1:
            wanted[context][continuation[0]] = None
    single: dict[Pair, _NextToken] = {}
    for context, tokens in wanted.items():
        single |= {(context, (one.token,)): one for one in _next(context, list(tokens))}
    longer = {
        piece: identified(ContinuationRequest("", *piece))
        for some in pieces.values()
        for piece in some
        if len(piece[1]) > 1
    }
    parts = {pair: [single.get(piece) or longer[piece] for piece in some] for pair, some in pieces.items()}
    requests = {one.request.request_id: one.request for one in single.values()}
    requests |= {request.request_id: request for request in longer.values()}
    return ScorePlan(tuple(requests.values()), parts)


def _next(context: Tokens, tokens: Sequence[int]) -> Iterable[_NextToken]:
    for start in range(0, len(tokens), MAX_CANDIDATES):
        some = tuple(tokens[start : start + MAX_CANDIDATES])
        request = identified(NextTokenRequest("", context, some))
        for place, token in enumerate(some):
            yield _NextToken(request, place, token)
