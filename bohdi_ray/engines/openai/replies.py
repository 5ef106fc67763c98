"""Reading what a server answers with: text, reasoning, labels, why it ended, in all the ways these are written. Pure.

A reply is what its JSON holds, or an object with the same names as attributes; nothing in it is taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from bohdi_ray.engines.choices import labelled
from bohdi_ray.engines.reasoning import split_reasoning
from bohdi_ray.errors import RemoteFailed, RequestRefused
from bohdi_ray.records import Completion, GenerationRequest

End = Literal["stop", "length", "withheld", "failed", "other"]

# Why an answer ended, in the words of many servers, in lower case.
WORDS: dict[End, str] = {
    "stop": "stop eos eos_token stop_sequence stop_token stop_str end end_turn complete completed finish finished "
    "normal natural success done",
    "length": "length max_tokens max_length max_output_tokens max_new_tokens max_tokens_reached model_length "
    "token_limit limit incomplete model_context_window_exceeded",
    "withheld": "content_filter content_filtered safety recitation prohibited_content blocklist spii refusal sensitive "
    "guardrail_intervened language",
    "failed": "error abort aborted cancelled network_error insufficient_system_resource",
}
ENDS: dict[str, End] = {word: end for end, words in WORDS.items() for word in words.split()}
# Fields of a message with its reasoning, and types of parts of its content.
REASONING = ("reasoning_content", "reasoning", "thinking")
THOUGHT_PARTS, TEXT_PARTS = (
    ("thinking", "reasoning", "think", "reasoning_text", "summary_text"),
    ("text", "output_text"),
)
MAX_COUNT = 2**53


class AnswerFailed(Exception):
    """The server gave up in the middle of an answer: worth another try. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply as it was understood."""

    completion: Completion
    written: str = ""  # the text as the model wrote it, before a label was read out of it
    starved: bool = False  # its room ended in the reasoning, before or in the answer


def completion_of(reply: Any, request: GenerationRequest, base: Completion) -> Completion:
    """A Completion from a chat completion. An answer that was withheld is none. Raises RemoteFailed for a page."""
    return read(reply, request, base).completion


def read(reply: Any, request: GenerationRequest, base: Completion) -> Reading:
    """The reply to `request`. Raises RemoteFailed for a page, AnswerFailed for an answer that was broken off."""
    if not isinstance(reply, dict) and not hasattr(reply, "choices"):
        raise RemoteFailed(f"{base.model} answered with something else than a chat completion; check its base_url")
    base, num_reasoning_tokens = _counted(_get(reply, "usage"), base)
    choices = _get(reply, "choices")
    if not isinstance(choices, list | tuple) or not choices:
        return Reading(replace(base, error=RequestRefused(f"{base.model}: the server's reply holds no answer")))
    answer = choices[0]
    message = _get(answer, "message")
    text, reasoning = _content(message)
    reason = _get(answer, "finish_reason")
    end = end_of(reason, bool(text))
    if end == "failed":
        raise AnswerFailed(f"the answer was broken off with {reason!r}")
    if end in ("withheld", "other"):  # content_filter, tool_calls, ...
        return Reading(replace(base, error=RequestRefused(f"{base.model} ended its answer with {reason!r}")))
    refusal = _get(message, "refusal")
    if not text and isinstance(refusal, str) and refusal.strip():
        return Reading(replace(base, error=RequestRefused(f"{base.model} declined to answer: {refusal[:200]}")))
    split = split_reasoning(text, None, False, end != "length")
    reasoning = "\n\n".join(part for part in (reasoning, split.reasoning) if part)
    text = split.text
    if reasoning and not num_reasoning_tokens:  # its share by length, where the server does not count it apart
        num_reasoning_tokens = base.num_tokens * len(reasoning) // (len(reasoning) + len(text))
    starved = end == "length" and _is_starved(text, bool(reasoning), num_reasoning_tokens, base.num_tokens, request)
    written, choice_logprobs = text, None
    if request.choices is not None and not starved:
        text, choice_logprobs = labelled(text, alternatives(_get(answer, "logprobs"), text), request.choices)
    done = replace(
        base,
        text=text,
        reasoning=reasoning,
        finish_reason="length" if end == "length" and choice_logprobs is None else "stop",
        choice_logprobs=choice_logprobs,
    )
    return Reading(done, written, starved)


def end_of(reason: Any, has_text: bool) -> End:
    """What a finish reason means; none at all is a stop where there is a text."""
    if not isinstance(reason, str) or not reason.strip():
        return "stop" if has_text and (reason is None or reason == "") else "other"
    return ENDS.get(reason.strip().lower().rpartition(".")[2].removeprefix("finish_reason_"), "other")


def _is_starved(
    text: str, has_reasoning: bool, num_reasoning_tokens: int, num_tokens: int, request: GenerationRequest
) -> bool:
    if not text.strip():
        return has_reasoning or num_reasoning_tokens > 0
    # The answer itself had less than its own room.
    return num_reasoning_tokens > 0 and num_tokens - num_reasoning_tokens < request.sampling.max_tokens


def _counted(usage: Any, base: Completion) -> tuple[Completion, int]:
    """The counts of tokens, and how many of them were reasoning."""
    details = _get(usage, "completion_tokens_details")
    told = (_get(usage, "prompt_tokens"), _get(usage, "completion_tokens"))
    reasoning = (_get(details, "reasoning_tokens"), _get(usage, "reasoning_tokens"))
    num_prompt_tokens, num_tokens, *num_reasoning = (_count(n) for n in (*told, *reasoning))
    return replace(base, num_prompt_tokens=num_prompt_tokens, num_tokens=num_tokens), max(num_reasoning)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else 0


def _content(message: Any) -> tuple[str, str]:
    """Text and reasoning of a message: content as text or as a list of parts, reasoning in whichever field."""
    content = _get(message, "content")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list | tuple) else (content,):
        kind = _get(part, "type")
        kind = kind.lower() if isinstance(kind, str) else kind
        if isinstance(part, str):
            texts.append(part)
        elif kind in THOUGHT_PARTS:
            thoughts += _texts(part)
        elif isinstance(part, dict) and (kind is None or kind in TEXT_PARTS):
            texts += _texts(part)
    for name in REASONING:
        if found := list(_texts(_get(message, name))):
            thoughts += found
            break
    else:
        thoughts += _texts(_get(message, "reasoning_details"))
    return "".join(texts), "\n\n".join(thought.strip() for thought in thoughts if thought.strip())


def _texts(value: Any, depth: int = 4) -> Iterator[str]:
    """Every text of a part, however deep, as in {"type": "thinking", "thinking": [{"type": "text", "text": ...}]}."""
    if depth == 0:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth - 1)
    elif value is not None:
        for name in ("text", "thinking", "reasoning", "summary", "content"):
            if (inner := _get(value, name)) is not None:
                yield from _texts(inner, depth - 1)
                return


def alternatives(logprobs: Any, text: str) -> list[tuple[str, float]]:
    """Text and log-probability of the alternatives at the position where `text` begins; empty if that is not known.

    Reasoning before the text has positions too, if the server gives them. Also read: the lists of older servers,
    {"tokens": [...], "token_logprobs": [...], "top_logprobs": [{token: logprob}]}.
    """
    positions = _positions(logprobs)
    if not positions:
        return []
    tokens = [token if isinstance(token, str) else "" for token, _ in positions]
    return [
        (token, value)
        for token, value in positions[_start_of(text.strip(), tokens)][1]
        if isinstance(token, str) and isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _start_of(text: str, tokens: list[str]) -> int:
    """The position whose token begins `text`: the last one from which on the tokens spell it, else the first."""
    if not text or "".join(tokens).strip().startswith(text):
        return 0
    whole = "".join(tokens)
    at = whole.rfind(text)
    if at <= 0:
        return 0
    passed = 0
    for number, token in enumerate(tokens):
        passed += len(token)
        if passed > at:
            return number
    return 0


def _positions(logprobs: Any) -> list[tuple[Any, list[tuple[Any, Any]]]]:
    """(token, alternatives) of every position."""
    content = _get(logprobs, "content")
    if isinstance(content, list | tuple) and content:
        positions = []
        for entry in content:
            top = _get(entry, "top_logprobs")
            entries = top if isinstance(top, list | tuple) and top else [entry]
            positions.append((_get(entry, "token"), [(_get(e, "token"), _get(e, "logprob")) for e in entries]))
        return positions
    tokens, values, top = (_get(logprobs, name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not tokens:
        return []
    positions = []
    for number, token in enumerate(tokens):
        told = top[number] if isinstance(top, list) and number < len(top) and isinstance(top[number], dict) else {}
        value = values[number] if isinstance(values, list) and number < len(values) else math.nan
        positions.append((token, list(told.items()) or [(token, value)]))
    return positions


def _get(value: Any, name: str) -> Any:
    """A field of an object that JSON made, or an attribute of one that the client made; None for anything else."""
    if isinstance(value, dict):
        return value.get(name)
    return None if isinstance(value, str | int | float | list | tuple | None) else getattr(value, name, None)
