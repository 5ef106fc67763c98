"""What a refusal teaches: from a server's complaint, and what it was sent, to what is sent from then on. Pure.

A field is left out only when the server says that it does not take the field, or that the field has one value alone; a
complaint about a value of ours otherwise teaches nothing, except where it states a limit that can be kept. The server's
own naming of a field (`param`, `loc`) counts before the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.constraints import FIELDS as CONSTRAINTS
from bohdi_ray.engines.openai.constraints import SPOKEN, WAYS, kind_of, way_for
from bohdi_ray.engines.openai.phrases import (
    EXACT,
    FIXED,
    LIMIT_CODES,
    LIMITED,
    NOT_TAKEN,
    ONE_VALUE_CODES,
    UNKNOWN,
    WANTS_NUMBER,
    mentions,
    named,
    numbers_in,
)
from bohdi_ray.engines.openai.troubles import Complaint, Trouble
from bohdi_ray.records import GenerationRequest

# Fields that a request is also good without.
OPTIONAL = frozenset(
    {"temperature", "top_p", "seed", "random_seed", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
    | {"chat_template_kwargs", "reasoning_effort"}
    | CONSTRAINTS
)
# What is tried under another name before it is left out.
OTHER_NAMES = {"max_tokens": "max_completion_tokens", "seed": "random_seed"}


class Lesson(NamedTuple):
    """What was learned: about what, and in words that follow the model's name."""

    about: str
    text: str


def _optional(sent: Mapping[str, Any]) -> list[str]:
    return [name for name in sent if name in OPTIONAL]


Rule = Callable[[Complaint, Mapping[str, Any], GenerationRequest, Capabilities], Lesson | None]


def learn(
    trouble: Trouble, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities, who: str
) -> bool:
    """Whether the trouble teaches something; then the request is worth another try.

    `sent` is the body that was refused, and must be the one that would be sent now: others may have taught meanwhile
    what this refusal is about.
    """
    found = False
    for complaint in trouble.complaints:
        for rule in RULES:
            if lesson := rule(complaint, sent, request, learned):
                learned.note(lesson.about, f"{who}: {lesson.text} (the server said: {_short(complaint)})")
                found = True
                break
    return found


def _short(complaint: Complaint) -> str:
    text = " ".join(complaint.text.split())
    return f"{text[:200]}..." if len(text) > 200 else text


def _system_role(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """No system role: the system prompt opens the user turn."""
    role = sent["messages"][0]["role"]
    if role != "system" or learned.folded:
        return None
    said = re.search(
        r"system\b.*\brole|role.*\bsystem|(system|developer) (message|prompt|instruction|role)s?\b|must alternate|"
        r"roles? (other|besides)|first message|only user|(invalid|unsupported|unknown) role",
        complaint.text,
        re.I,
    )
    if not said and complaint.path[-1:] != ("role",):
        return None
    learned.folded = True
    return Lesson("role", "it has no system role; the system prompt opens the user turn from now on")


def _content_parts(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Content only as a list of parts."""
    if learned.parts:
        return None
    at_content = "content" in complaint.path or re.search(r"\bcontent\b", complaint.text)
    wants_list = re.search(r"\b(valid )?(list|array|sequence)\b|list_type", f"{complaint.code} {complaint.text}", re.I)
    if not (at_content and wants_list and re.search(r"should|must|expect|valid|list_type|type", complaint.text, re.I)):
        return None
    learned.parts = True
    return Lesson("content", "it takes content as a list of parts only; that is sent from now on")


def _not_both(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Temperature or top_p, not both: the temperature stays."""
    if not {"temperature", "top_p"} <= sent.keys() or "top_p" in learned.left_out:
        return None
    if not (re.search(r"\btemperature\b", complaint.text) and re.search(r"\btop_?p\b", complaint.text, re.I)):
        return None
    if not re.search(
        r"\bboth\b|\bnot\b.*\btogether\b|only one|one of|mutually exclusive|either\b", complaint.text, re.I
    ):
        return None
    learned.left_out.add("top_p")
    return Lesson("top_p", "it does not take temperature and top_p together; top_p is left out from now on")


def _insists(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """A switch that must be set for answers that are not streamed."""
    match = re.search(r"\b(enable_thinking) must be set to (false|true)", complaint.text, re.I)
    if match is None or match[1] in sent:
        return None
    learned.added[match[1]] = match[2].lower() == "true"
    return Lesson(match[1], f"it wants {match[1]}: {match[2].lower()}, which is sent from now on")


def _constraint(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """A constraint that is refused, in whatever words: the next way."""
    kind = kind_of(request)
    ours = CONSTRAINTS & sent.keys()
    if kind is None or not ours:
        return None
    if not ours.intersection(complaint.path) and not any(mentions(complaint.text, name) for name in ours):
        if complaint.path[:1] and complaint.path[0] in sent:
            return None
        if not (SPOKEN.search(complaint.text) and NOT_TAKEN.search(complaint.text)):
            return None
    rung = way_for(request, learned.rungs.get(kind, 0))[0]
    if UNKNOWN.search(f"{complaint.code} {complaint.text}"):  # so in the other kind's form too
        for other in ("choice", "regex"):
            learned.rungs[other] = max(learned.rungs.get(other, 0), rung)
    return next_way(request, learned)


def next_way(request: GenerationRequest, learned: Capabilities) -> Lesson:
    """Moves on to the next way of sending a constraint. Returns how to say so."""
    kind = kind_of(request)
    assert kind is not None
    learned.rungs[kind] = way_for(request, learned.rungs.get(kind, 0))[0] + 1
    rung, fields = way_for(request, learned.rungs[kind])
    what = "labels" if kind == "choice" else "names"
    if rung == len(WAYS):
        return Lesson(kind, f"it takes no constraint for {what}; they are read from free text from now on")
    return Lesson(kind, f"it takes not every way of a constraint for {what}; {', '.join(fields)} is sent from now on")


def _limit(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """A value outside of limits that are stated."""
    if EXACT.search(f"{complaint.code} {complaint.text}") or FIXED.search(complaint.text):
        return None
    if not (LIMITED.search(complaint.text) or LIMIT_CODES.search(complaint.code)):
        return None
    for name in named(complaint, _optional(sent), LIMITED):
        if name in ("logprobs", "top_logprobs"):
            return _fewer_alternatives(complaint, sent, learned)
        if name in ("max_tokens", "max_completion_tokens"):
            return _other_length(name, complaint, sent, learned)
        if name == "temperature" and sent[name] == 0:
            lowest = min((n for n in numbers_in(complaint.text) if 0 < n < 1), default=0.01)
            learned.at_least["temperature"] = max(lowest, learned.at_least.get("temperature", 0.0))
            return Lesson(name, f"it does not take temperature 0; {lowest:g} is sent instead")
        if name == "top_p" and sent[name] == 1:
            learned.left_out_at["top_p"] = 1.0
            return Lesson(name, "it does not take top_p 1; it is left out where it is 1")
    return None


def _fewer_alternatives(complaint: Complaint, sent: Mapping[str, Any], learned: Capabilities) -> Lesson | None:
    asked = int(sent["top_logprobs"] if "top_logprobs" in sent else sent["logprobs"])
    text = complaint.text
    if re.search(rf"(?<!\d){asked}\)? *\(?exclusive|(less than|<) *{asked}(?!\d)", text, re.I):
        most = asked - 1
    else:
        most = int(max((n for n in numbers_in(text) if n < asked), default=asked // 2))
    if most < 1:
        return _leave_out("top_logprobs" if "top_logprobs" in sent else "logprobs", learned)
    learned.at_most["top_logprobs"] = most
    text = f"it gives log-probabilities of {most} alternatives at most; no more are asked for from now on"
    return Lesson("top_logprobs", text)


def _other_length(name: str, complaint: Complaint, sent: Mapping[str, Any], learned: Capabilities) -> Lesson | None:
    numbers, asked = numbers_in(complaint.text), sent[name]
    more, less = [n for n in numbers if n > asked], [n for n in numbers if 1 <= n < asked]
    wants_more = re.search(r"below|at least|minimum|>=|≥|too (small|low)|greater than or", complaint.text, re.I)
    if wants_more and more:
        learned.at_least["max_tokens"] = min(more)
        return Lesson(name, f"it wants room for {min(more):g} tokens or more, which is sent from now on")
    if less:
        learned.at_most["max_tokens"] = max(less)
        return Lesson(name, f"it decodes {max(less):g} tokens at most; no more are asked for from now on")
    return None


def _counted(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """`logprobs` as a number instead of a switch."""
    if sent.get("logprobs") is not True or learned.counted_logprobs:
        return None
    if "logprobs" not in named(complaint, _optional(sent), WANTS_NUMBER) or not WANTS_NUMBER.search(
        f"{complaint.text} {complaint.code}"
    ):
        return None
    learned.counted_logprobs = True
    return Lesson("logprobs", "its logprobs is a number of alternatives, which is sent from now on")


def _not_taken(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Fields that the server does not take, or whose value it does not let choose."""
    exact = EXACT.search(f"{complaint.text} {complaint.code}")
    fixed = bool(FIXED.search(complaint.text) or ONE_VALUE_CODES.search(complaint.code))
    if not (fixed or exact or NOT_TAKEN.search(complaint.text)):
        return None
    if LIMITED.search(complaint.text) and not (fixed or exact):
        return None  # a wrong value
    names: list[str] = []
    if fixed:
        names = [name for name in named(complaint, _optional(sent), FIXED, 2) if name in ("temperature", "top_p")]
    names = names or named(complaint, _optional(sent), EXACT) or named(complaint, _optional(sent), NOT_TAKEN)
    lessons = [_leave_out(name, learned, complaint.text) for name in names if name in OPTIONAL]
    return Lesson(lessons[0].about, "; ".join(lesson.text for lesson in lessons)) if lessons else None


def _leave_out(name: str, learned: Capabilities, text: str = "") -> Lesson:
    original = next((old for old, new in learned.renamed.items() if new == name), name)
    other = OTHER_NAMES.get(name)
    if name in learned.renamed:  # by another complaint about the same request
        return Lesson(name, f"it does not take {name}; {other} is sent instead from now on")
    if other is not None and (name != "seed" or other in text):
        learned.renamed[name] = other
        return Lesson(name, f"it does not take {name}; {other} is sent instead from now on")
    learned.left_out.add(name)
    if original != name:
        learned.left_out.add(original)
    return Lesson(name, f"it does not take {name}; it is left out from now on")


# The first that finds something in a complaint decides what it teaches.
RULES: tuple[Rule, ...] = (_insists, _not_both, _constraint, _limit, _counted, _not_taken, _system_role, _content_parts)
