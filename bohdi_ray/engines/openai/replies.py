"""Parses a server's response: text, reasoning, labels, finish reason, in all common formats. Pure.

A reply is what its JSON holds, or an object with the same names as attributes; nothing in it is taken for granted.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from bohdi_ray.engines.chat.reasoning import split_reasoning
from bohdi_ray.engines.vllm.choices import labelled
from bohdi_ray.errors import RemoteFailed, RequestRefused
from bohdi_ray.languages.labels import find_label
from bohdi_ray.records import EngineReply, GenerationRequest

End = Literal["stop", "length", "withheld", "failed", "other"]

# Why an answer ended, by stems of many servers' words, in lower case without separators; the first that fits counts.
ENDS: tuple[tuple[End, re.Pattern[str]], ...] = (
    ("withheld", re.compile("filter|safety|recitation|prohibit|block|spii|refus|sensitive|guardrail|language|toxic")),
    ("failed", re.compile("error|abort|cancel|insufficient|overload|unavailable|timeout|ratelimit")),
    ("length", re.compile("length|^max|limit|^token|context|incomplete|truncat")),
    ("stop", re.compile("^(stop|eos|eot|eom|end|complet|finish|normal|natural|success|done|ok$)|end$")),
)
NO_REASON = ("", "null", "none")
# Fields of a message with its reasoning, and types of parts of its content.
REASONING = ("reasoning_content", "reasoning", "thinking")
THOUGHT_PARTS, TEXT_PARTS = (
    ("thinking", "reasoning", "think", "reasoning_text", "summary_text"),
    ("text", "output_text"),
)
MAX_COUNT = 2**53
MOST_PLACES = 4  # at which a text is looked for among the tokens


class AnswerFailed(Exception):
    """The server gave up in the middle of an answer; a retry may help. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A parsed reply."""

    completion: EngineReply
    written: str = ""  # the text as the model wrote it, before a label was read out of it
    starved: bool = False  # its room ended in the reasoning, before or in the answer


def completion_of(reply: Any, request: GenerationRequest, base: EngineReply) -> EngineReply:
    """An EngineReply from a chat completion. A withheld answer counts as no answer. Raises RemoteFailed for a web
    page."""
    return read(reply, request, base).completion


def read(reply: Any, request: GenerationRequest, base: EngineReply) -> Reading:
    """Parses the reply to `request`. Raises RemoteFailed for a web page, AnswerFailed for an answer that was cut
    off."""
    if not isinstance(reply, dict) and not hasattr(reply, "choices"):
        raise RemoteFailed(f"{base.model} answered with something other than a chat completion; check its base_url")
    base, num_reasoning_tokens = _counted(_get(reply, "usage"), base)
    choices = _get(reply, "choices")
    if not isinstance(choices, list | tuple) or not choices:
        return Reading(replace(base, error=RequestRefused(f"{base.model}: the server's reply holds no answer")))
    answer = choices[0]
    message = _get(answer, "message")
    text, reasoning = content_of(message)
    reason = _get(answer, "finish_reason")
    end = end_of(reason, bool(text))
    if end == "failed":
        raise AnswerFailed(f"the answer was cut off with {reason!r}")
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
        text, choice_logprobs = labelled(
            text, label_alternatives(_get(answer, "logprobs"), text, request.choices), request.choices
        )
    done = replace(
        base,
        text=text,
        reasoning=reasoning,
        finish_reason="length" if end == "length" and choice_logprobs is None else "stop",
        choice_logprobs=choice_logprobs,
    )
    return Reading(done, written, starved)


def end_of(reason: Any, has_text: bool) -> End:
    """The meaning of a finish reason, a word or {"type": word}. Without a reason it is "stop" if there is text."""
    reason = reason.get("type") if isinstance(reason, dict) else "" if reason is None else reason
    if not isinstance(reason, str):
        return "other"
    word = re.sub(r"[^a-z0-9]", "", reason.lower().rpartition(".")[2]).removeprefix("finishreason")
    if word in NO_REASON:
        return "stop" if has_text else "other"
    return next((end for end, stems in ENDS if stems.search(word)), "other")


def _is_starved(
    text: str, has_reasoning: bool, num_reasoning_tokens: int, num_tokens: int, request: GenerationRequest
) -> bool:
    if not text.strip():  # many servers hide the reasoning, and some do not count it
        return not text or has_reasoning or num_reasoning_tokens > 0
    # The answer itself had less than its own room.
    return num_reasoning_tokens > 0 and num_tokens - num_reasoning_tokens < request.sampling.max_tokens


def _counted(usage: Any, base: EngineReply) -> tuple[EngineReply, int]:
    """The token counts, and how many of the tokens were reasoning."""
    details = _get(usage, "completion_tokens_details")
    told = (_get(usage, "prompt_tokens"), _get(usage, "completion_tokens"))
    reasoning = (_get(details, "reasoning_tokens"), _get(usage, "reasoning_tokens"))
    num_prompt_tokens, num_tokens, *num_reasoning = (_count(n) for n in (*told, *reasoning))
    return replace(base, num_prompt_tokens=num_prompt_tokens, num_tokens=num_tokens), max(num_reasoning)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else 0


def content_of(message: Any) -> tuple[str, str]:
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
    """All texts of a part, at any depth, as in {"type": "thinking", "thinking": [{"type": "text", "text": ...}]}."""
    if depth == 0:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth - 1)
    elif value is not None:
        for name in ("text", "thinking", "reasoning", "summary", "content", "value"):
            if (inner := _get(value, name)) is not None:
                yield from _texts(inner, depth - 1)
                return


def label_alternatives(logprobs: Any, text: str, choices: Sequence[str]) -> list[tuple[str, float]]:
    """The alternatives at the position of the label that `text` names; empty if there is no label or its position is
    unknown.

    Alternatives to a mark or word before the label are not used: a judge that began with "**" said nothing about A and
    B.
    """
    found = find_label(text, choices)
    return [] if found is None else alternatives(logprobs, text, found.start)


def alternatives(logprobs: Any, text: str, at: int = 0) -> list[tuple[str, float]]:
    """Text and log-probability of the alternatives to the token that starts at position `at` of `text`; empty if no
    token is known to start there.

    Reasoning before the text has positions too, if the server gives them. Also read: the lists of older servers,
    {"tokens": [...], "token_logprobs": [...], "top_logprobs": [{token: logprob}]}.
    """
    positions = _positions(logprobs)
    number = _position_of([token if isinstance(token, str) else "" for token, _ in positions], text, at)
    if number is None:
        return []
    return [
        (token, value)
        for token, value in positions[number][1]
        if isinstance(token, str) and isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _position_of(tokens: list[str], text: str, at: int) -> int | None:
    """The position whose token begins what stands at `at` in `text`, with nothing but marks and space before it in
    that token. Of several places where the tokens spell the text the last: reasoning comes before it, and behind it at
    most the name of a special token."""
    written = text.strip()
    at -= len(text) - len(text.lstrip())
    starts = list(accumulate(map(len, tokens), initial=0))
    whole = "".join(tokens)
    place = len(whole)
    for _ in range(MOST_PLACES if written else 0):
        place = whole.rfind(written, 0, place + len(written) - 1)
        if place < 0:
            return None
        number = bisect_right(starts, place + at) - 1
        if not any(character.isalnum() for character in whole[starts[number] : place + at]):
            return number
    return None


def _positions(logprobs: Any) -> list[tuple[Any, list[tuple[Any, Any]]]]:
    """(token, alternatives) for every position."""
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
