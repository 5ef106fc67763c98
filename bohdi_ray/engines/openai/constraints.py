"""The formats in which servers accept a constraint on the answer: one of several labels, or a regular expression.

The formats are tried in order: if a server refuses one, or accepts it but ignores it, the next one is used. After the
last one no constraint is sent, and the label is read from free text. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bohdi_ray.records import GenerationRequest

Kind = Literal["choice", "regex"]


@dataclass(frozen=True, slots=True)
class Way:
    """One format of a constraint. `fields` returns None if the format cannot express this constraint."""

    servers: str  # that are known for it
    fields: Callable[[GenerationRequest], Mapping[str, Any] | None]


def kind_of(request: GenerationRequest) -> Kind | None:
    """The kind of constraint on the answer, if there is one."""
    return "choice" if request.choices is not None else "regex" if request.regex is not None else None


def pattern_of(request: GenerationRequest) -> str:
    """The constraint as one regular expression."""
    if request.choices is not None:
        return "(" + "|".join(re.escape(choice) for choice in request.choices) + ")"
    assert request.regex is not None
    return request.regex


def _structured(request: GenerationRequest) -> Mapping[str, Any]:
    if request.choices is not None:
        return {"structured_outputs": {"choice": list(request.choices)}}
    return {"structured_outputs": {"regex": request.regex}}


def _guided(request: GenerationRequest) -> Mapping[str, Any]:
    if request.choices is not None:
        return {"guided_choice": list(request.choices)}
    return {"guided_regex": request.regex}


def _grammar(request: GenerationRequest) -> Mapping[str, Any] | None:
    """GBNF; regular expressions are not translated."""
    if request.choices is None:
        return None
    return {"grammar": "root ::= " + " | ".join(json.dumps(choice) for choice in request.choices)}


WAYS: tuple[Way, ...] = (
    Way("vLLM", _structured),
    Way("vLLM before 0.11, and gateways to it", _guided),
    Way("SGLang", lambda request: {"regex": pattern_of(request)}),
    Way("TGI", lambda request: {"response_format": {"type": "regex", "value": pattern_of(request)}}),
    Way("llama.cpp", _grammar),
)
FIELDS = frozenset({"structured_outputs", "guided_choice", "guided_regex", "regex", "response_format", "grammar"})
# How servers speak of a constraint without naming its field.
SPOKEN = re.compile(
    r"structured.?output|guided.?(decoding|choice|regex)|grammar|\bregex|response_?format|json_schema", re.I
)


def way_for(request: GenerationRequest, rung: int) -> tuple[int, Mapping[str, Any]]:
    """The fields of the first format from number `rung` on that can express this request's constraint, and the number
    of that format."""
    for number, way in enumerate(WAYS[rung:], rung):
        fields = way.fields(request)
        if fields is not None:
            return number, fields
    return len(WAYS), {}


def holds(request: GenerationRequest, text: str) -> bool:
    """Whether an answer satisfies its request's constraint."""
    if request.choices is not None:
        return text.strip() in request.choices
    return request.regex is None or any(re.fullmatch(request.regex, form) for form in (text, text.strip()))
