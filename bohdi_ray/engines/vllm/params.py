"""vLLM's SamplingParams for each kind of request. Part of its interface, as api.py is, and under the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_LOGPROBS = 64  # most alternatives asked for at one position


def generation_params(
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    choices: Sequence[str] | None = None,
    regex: str | None = None,
    stop: str | None = None,
    stop_token_id: int | None = None,
    show_control_tokens: bool = False,
) -> Any:
    """SamplingParams of one answer, delivered once it is finished. It ends in front of `stop`, or at `stop_token_id`,
    which a text without control tokens may not hold."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    extra: dict[str, Any] = {}
    if choices is not None:
        extra["structured_outputs"] = StructuredOutputsParams(choice=list(choices))
        # The grammar's mask comes first, so these are the tokens that may begin a choice.
        extra["logprobs"] = min(MAX_LOGPROBS, 3 * len(choices) + 4)
    elif regex is not None:
        extra["structured_outputs"] = StructuredOutputsParams(regex=regex)
    if stop is not None:
        extra["stop"] = [stop]
    if stop_token_id is not None:
        extra["stop_token_ids"] = [stop_token_id]
    if show_control_tokens:
        extra |= {"skip_special_tokens": False, "spaces_between_special_tokens": False}
    return SamplingParams(
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **extra,
    )


def scoring_params() -> Any:
    """SamplingParams that read the prompt's own log-probabilities; one token must be decoded for it."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def next_token_params(candidates: Sequence[int]) -> Any:
    """SamplingParams that read the log-probabilities of these tokens, and the most likely one, after the prompt."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        logprob_token_ids=list(candidates),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion_params(max_tokens: int, stop: Sequence[str], options: dict[str, float]) -> Any:
    """SamplingParams of a text in front of the first of `stop`; greedy unless `options` say otherwise."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        **{"temperature": 0.0, **options},
        max_tokens=max_tokens,
        stop=list(stop),
        skip_special_tokens=False,  # one of them may be a stop
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
