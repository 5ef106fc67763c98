"""Limits that a server states for a value, and how requests obey them. Pure; called by lessons.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.openai.bodies import Complaint
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.phrases import (
    EXACT,
    FIXED,
    LIMIT_CODES,
    LIMITED,
    WINDOW,
    named,
    numbers_in,
    sentences,
)
from bohdi_ray.engines.openai.remedies import Lesson, leave_out, optional
from bohdi_ray.records import GenerationRequest

# The lengths of an answer, and what servers also call them.
LENGTHS = ("max_tokens", "max_completion_tokens")
ALIASES = (
    *("max_output_tokens", "max_new_tokens", "maximum_tokens", "maximum_output_tokens", "maximum_completion_tokens"),
    *("output_tokens", "completion_tokens"),
)
LEAST_LENGTH = 16  # tokens; a smaller number beside a length is no limit of it
WANTS_MORE = re.compile(r"below (the )?min|at least|minimum|>=|≥|too (small|low)|greater than or", re.I)
WANTS_LESS = re.compile(
    r"at most|less than|<|≤|max(imum)? |above|exceed|range|between|too (large|big|high)|up to", re.I
)


def limit(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Learns from a complaint that a value is outside stated limits."""
    if EXACT.search(f"{complaint.code} {complaint.text}") or FIXED.search(complaint.text):
        return None
    if not (LIMITED.search(complaint.text) or LIMIT_CODES.search(complaint.code)):
        return None
    for name in named(complaint, [*optional(sent), *ALIASES], LIMITED):
        if name in ("logprobs", "top_logprobs"):
            return _fewer_alternatives(complaint, sent, learned)
        if name in LENGTHS or name in ALIASES:
            return stated_length(complaint, sent, request, learned) or _shorter(complaint, sent, learned)
        if name == "temperature" and sent[name] == 0:
            lowest = min((n for n in numbers_in(complaint.text) if 0 < n < 1), default=0.01)
            learned.at_least["temperature"] = max(lowest, learned.at_least.get("temperature", 0.0))
            return Lesson(name, f"it does not take temperature 0; {lowest:g} is sent instead")
        if name == "top_p" and sent[name] == 1:
            learned.left_out_at["top_p"] = 1.0
            return Lesson(name, "it does not take top_p 1; it is left out where it is 1")
    return None


def stated_length(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Learns a limit on the answer's length from the numbers in the complaint; ignores sentences about the context
    window."""
    field = next((name for name in LENGTHS if name in sent), None)
    if field is None or not named(complaint, [*LENGTHS, *ALIASES], LIMITED):
        return None
    stated = [s for s in sentences(complaint.text) if LIMITED.search(s) and not WINDOW.search(s)]
    text, asked = " ".join(stated), sent[field]
    numbers = [number for number in numbers_in(text, inclusive=True) if number.is_integer() and number >= LEAST_LENGTH]
    more, less = [n for n in numbers if n > asked], [n for n in numbers if n < asked]
    if WANTS_MORE.search(text) and more and min(more) > learned.at_least.get("max_tokens", 0):
        learned.at_least["max_tokens"] = min(more)
        return Lesson(field, f"it requires a limit of at least {min(more):g} tokens, which is sent from now on")
    if less and (WANTS_LESS.search(text) or not WANTS_MORE.search(text)):
        return _no_longer(field, int(max(less)), learned)
    return None


def _shorter(complaint: Complaint, sent: Mapping[str, Any], learned: Capabilities) -> Lesson | None:
    """Halves the length if the server says it is too large without giving a number."""
    field = next((name for name in LENGTHS if name in sent), None)
    if field is None or WINDOW.search(complaint.text) or sent[field] < 2 * LEAST_LENGTH:
        return None
    others = [number for number in numbers_in(complaint.text) if number != sent[field]]
    if others or not re.search(r"too (large|high|big)|exceed|above", complaint.text, re.I):
        return None
    return _no_longer(field, sent[field] // 2, learned)


def _no_longer(field: str, most: int, learned: Capabilities) -> Lesson | None:
    """Learns an upper limit on the answer's length; learns nothing if a limit as low is known already."""
    if most >= learned.at_most.get("max_tokens", math.inf):
        return None
    learned.at_most["max_tokens"] = most
    return Lesson(field, f"it decodes {most} tokens at most; no more are requested from now on")


def _fewer_alternatives(complaint: Complaint, sent: Mapping[str, Any], learned: Capabilities) -> Lesson | None:
    asked = int(sent["top_logprobs"] if "top_logprobs" in sent else sent["logprobs"])
    most = int(max((n for n in numbers_in(complaint.text, inclusive=True) if n < asked), default=asked // 2))
    if most < 1:
        return leave_out("top_logprobs" if "top_logprobs" in sent else "logprobs", learned)
    learned.at_most["top_logprobs"] = most
    text = f"it gives log-probabilities of {most} alternatives at most; no more are requested from now on"
    return Lesson("top_logprobs", text)
