"""The ways in which servers take a constraint of the answer: to one of several labels, or to a regular expression.

A ladder: a server that refuses a way, or takes it and answers otherwise, is sent the next one; behind the last one
nothing is sent, and the label is read from free text. Pure.
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
    """One way of stating a constraint. `fields` gives None where it cannot state this one."""

    servers: str  # that are known for it
    fields: Callable[[GenerationRequest], Mapping[str, Any] | None]


def kind_of(request: GenerationRequest) -> Kind | None:
    """What constrains the answer, if anything does."""
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
    """The fields of the first way from `rung` on that can state this request's constraint, and its number."""
    for number, way in enumerate(WAYS[rung:], rung):
        fields = way.fields(request)
        if fields is not None:
            return number, fields
    return len(WAYS), {}


def holds(request: GenerationRequest, text: str) -> bool:
    """Whether an answer keeps to its request's constraint."""
    if request.choices is not None:
        return text.strip() in request.choices
    return request.regex is None or any(re.fullmatch(request.regex, form) for form in (text, text.strip()))
