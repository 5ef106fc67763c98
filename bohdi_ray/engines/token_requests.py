"""Requests in token ids: nothing is added to them, no chat template, no system prompt, no special token.

For evaluation, whose prompts are fixed to the token. Answered by vLLM engines only (engines/vllm/token_answers.py): a
server gives no log-probabilities of a prompt's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from bohdi_ray.records import EngineReply


@dataclass(frozen=True, slots=True)
class ContinuationRequest:
    """How likely `continuation` is after `context`; neither is empty. Costs a prefill of both together."""

    request_id: str
    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NextTokenRequest:
    """How likely each of `candidates` is as the token after `context`: one prefill for all, read from the prefix cache
    where another request began alike."""

    request_id: str
    context: tuple[int, ...]
    candidates: tuple[int, ...]  # at most MAX_CANDIDATES


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Tokens after `context`, until their text holds one of `stop` or the model ends. `options` are vLLM's sampling
    parameters, sorted by name."""

    request_id: str
    context: tuple[int, ...]
    stop: tuple[str, ...]
    max_tokens: int
    options: tuple[tuple[str, float | int], ...] = ()


TokenRequest = ContinuationRequest | NextTokenRequest | CompletionRequest

MAX_CANDIDATES = 64  # vLLM takes 128, our engines params.MAX_LOGPROBS


@dataclass(frozen=True, slots=True)
class TokenReply(EngineReply):
    """The answer to a TokenRequest. Its `logprob` is that of a continuation, summed over its tokens, natural log."""

    logprobs: tuple[float, ...] = ()  # of the candidates, natural log
    greedy: bool = False  # whether every token of the continuation was the most likely one
    most_likely: int = -1  # the most likely next token
    token_ids: tuple[int, ...] = ()  # of a completion, that of a stop text or an end token included
