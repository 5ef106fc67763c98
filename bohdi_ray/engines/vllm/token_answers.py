"""Answers requests in token ids with a vLLM engine: what token_requests.py describes, to the token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bohdi_ray.engines.token_requests import CompletionRequest, ContinuationRequest, TokenReply, TokenRequest
from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.params import completion_params, next_token_params, scoring_params
from bohdi_ray.errors import PromptTooLong, RequestRefused


async def answer_tokens(
    request: TokenRequest,
    name: str,
    weights_version: int,
    window: int,
    decode: Callable[[list[int], Any], Awaitable[Any]],
) -> TokenReply:
    """The reply of model `name`, whose window is `window` tokens; what concerns this request alone is in its `error`.

    `decode` puts token ids with SamplingParams through vLLM and raises EngineFailed.
    """
    base = TokenReply(request.request_id, name, weights_version)
    token_ids, room = list(request.context), 1
    if isinstance(request, ContinuationRequest):
        token_ids += request.continuation
    elif isinstance(request, CompletionRequest):
        room = request.max_tokens
    if len(token_ids) + room > window:
        return replace(base, error=PromptTooLong(name, len(token_ids), window))
    try:
        output = await decode(token_ids, _params(request))
    except RequestRefused as error:
        return replace(base, error=error)
    base = replace(base, num_prompt_tokens=len(token_ids), finish_reason="stop")
    if isinstance(request, CompletionRequest):
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):
            refused = RequestRefused(f"vLLM ended request {request.request_id} with reason {answer.finish_reason!r}")
            return replace(base, finish_reason=None, error=refused)
        ids = tuple(answer.token_ids)
        return replace(base, token_ids=ids, num_tokens=len(ids), finish_reason=answer.finish_reason)
    if isinstance(request, ContinuationRequest):
        scored = api.prompt_logprobs_with_ranks(output)[-len(request.continuation) :]
        total, greedy = sum(logprob for logprob, _ in scored), all(rank == 1 for _, rank in scored)
        return replace(base, logprob=total, greedy=greedy)
    found, most_likely = api.next_token_logprobs(output)
    return replace(base, logprobs=tuple(found[token] for token in request.candidates), most_likely=most_likely)


def _params(request: TokenRequest) -> Any:
    if isinstance(request, ContinuationRequest):
        return scoring_params()
    if isinstance(request, CompletionRequest):
        return completion_params(request.max_tokens, request.stop, dict(request.options))
    return next_token_params(request.candidates)
