"""Learns from a refusal: derives from a server's complaint and the body sent how to send requests from then on. Pure.

A field is left out only if the server says that it does not accept the field, or that the field has a single allowed
value. Any other complaint about a value is ignored, unless it states a limit that can be obeyed. A field that the
server names explicitly (`param`, `loc`) takes precedence over the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bohdi_ray.engines.openai.bodies import Complaint
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.constraints import FIELDS as CONSTRAINTS
from bohdi_ray.engines.openai.constraints import SPOKEN, WAYS, kind_of, way_for
from bohdi_ray.engines.openai.limits import limit, stated_length
from bohdi_ray.engines.openai.phrases import (
    EXACT,
    FIXED,
    LIMIT_CODES,
    LIMITED,
    NOT_TAKEN,
    ONE_VALUE_CODES,
    UNKNOWN,
    UNKNOWN_NAMES,
    UNSET,
    WANTS_NUMBER,
    mentions,
    named,
    sentences,
)
from bohdi_ray.engines.openai.remedies import OPTIONAL, Lesson, leave_out, optional
from bohdi_ray.engines.openai.troubles import BUSY, Trouble
from bohdi_ray.records import GenerationRequest

Rule = Callable[[Complaint, Mapping[str, Any], GenerationRequest, Capabilities], Lesson | None]


def learn(
    trouble: Trouble, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities, who: str
) -> bool:
    """Whether something was learned from the error; then the request is worth another attempt.

    `sent` is the body that was refused. The caller must make sure that the same body would be sent now: otherwise
    another request may have learned from the same complaint meanwhile.
    """
    found = False
    rules = RULES_OF.get(trouble.kind, RULES)
    for complaint in trouble.complaints:
        for rule in rules:
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
    """The server has no system role: put the system prompt at the start of the user turn."""
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
    """The server accepts content only as a list of parts."""
    if learned.parts:
        return None
    at_content = "content" in complaint.path or re.search(r"\bcontent\b", complaint.text)
    wants_list = re.search(r"\b(valid )?(list|array|sequence)\b|list_type", f"{complaint.code} {complaint.text}", re.I)
    if not (at_content and wants_list and re.search(r"should|must|expect|valid|list_type|type", complaint.text, re.I)):
        return None
    learned.parts = True
    return Lesson("content", "it takes content as a list of parts only; that is sent from now on")


# Both names as what one thing is said of; a name that stands in a list of fields is not.
_NAMES = r"[`'\"]?temperature[`'\"]?", r"[`'\"]?top[ _-]?p[`'\"]?"
_BESIDE = (
    r"(?:,| ?/|,?(?: and| or| with| nor)(?: \w+){0,3}"
    r"|(?: can(?:not|'t| not)| may not| must not| is not| is)? [\w ]{0,30}(?:with|alongside|while|when|if)) ?"
    r"(?:the |parameter )*"
)
PAIR = re.compile("|".join(f"{one}{_BESIDE}{other}" for one, other in (_NAMES, _NAMES[::-1])), re.I)
NOT_BOTH = re.compile(
    r"\bboth\b|\bnot\b.*\btogether\b|only one|one of|mutually exclusive|either\b|\bcombined\b|at the same time"
    r"|simultaneous|conflict|incompatible|only (set|use|specify)"
    r"|(can(not|'t| not)|may not|must not) [\w ]{0,30}(with|alongside|while|when|if)\b",
    re.I,
)
BEFORE_A_LIST = re.compile(
    r",\s*[`'\"]?$|\b(expected|valid|known|available|supported (param|field)\w*)\b[^.;]{0,40}$", re.I
)
GOES_ON = re.compile(r"[`'\"]?\s*,\s*(?:and |or )?([`'\"]?)(\w+)")


def _not_both(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """The server accepts temperature or top_p, not both: keep the temperature."""
    if not {"temperature", "top_p"} <= sent.keys() or "top_p" in learned.left_out:
        return None
    if EXACT.search(f"{complaint.code} {complaint.text}"):
        return None
    for sentence in sentences(complaint.text):
        for pair in PAIR.finditer(sentence) if NOT_BOTH.search(sentence) else ():
            more = GOES_ON.match(sentence, pair.end())
            listed = BEFORE_A_LIST.search(sentence, 0, pair.start()) or (more and (more[1] or more[2] in OPTIONAL))
            if not listed:
                learned.left_out.add("top_p")
                return Lesson("top_p", "it does not take temperature and top_p together; top_p is left out from now on")
    return None


def _unknown(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Fields that the server calls unknown by name; other fields that it lists as known are ignored."""
    if complaint.path[:1] in (("messages",), ("model",)):
        return None
    names = [name for found in UNKNOWN_NAMES.findall(complaint.text) for name in re.findall(r"\w+", found)]
    plain = [name for name in optional(sent) if name in names and name not in CONSTRAINTS]
    return _all_left_out(plain, complaint, learned)


def _insists(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """A switch that the server requires for answers that are not streamed."""
    match = re.search(r"\b(enable_thinking) must be set to (false|true)", complaint.text, re.I)
    if match is None or match[1] in sent:
        return None
    learned.added[match[1]] = match[2].lower() == "true"
    return Lesson(match[1], f"it wants {match[1]}: {match[2].lower()}, which is sent from now on")


def _constraint(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """The server refuses a constraint, in whatever words: use the next format."""
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
    """Switches to the next format of a constraint. Returns the notice about it."""
    kind = kind_of(request)
    assert kind is not None
    learned.rungs[kind] = way_for(request, learned.rungs.get(kind, 0))[0] + 1
    rung, fields = way_for(request, learned.rungs[kind])
    what = "labels" if kind == "choice" else "names"
    if rung == len(WAYS):
        return Lesson(kind, f"it takes no constraint for {what}; they are read from free text from now on")
    return Lesson(kind, f"it takes not every way of a constraint for {what}; {', '.join(fields)} is sent from now on")


def _counted(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """The server wants `logprobs` as a number instead of a boolean."""
    if sent.get("logprobs") is not True or learned.counted_logprobs:
        return None
    if "logprobs" not in named(complaint, optional(sent), WANTS_NUMBER) or not WANTS_NUMBER.search(
        f"{complaint.text} {complaint.code}"
    ):
        return None
    learned.counted_logprobs = True
    return Lesson("logprobs", "its logprobs is a number of alternatives, which is sent from now on")


def _not_taken(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """Fields that the server does not accept, or whose value it fixes."""
    exact = EXACT.search(f"{complaint.text} {complaint.code}")
    fixed = bool(FIXED.search(complaint.text) or ONE_VALUE_CODES.search(complaint.code))
    unset = UNSET.search(complaint.text)
    if not (fixed or exact or unset or NOT_TAKEN.search(complaint.text)):
        return None
    if LIMITED.search(complaint.text) and not (fixed or exact or unset):
        return None  # a wrong value
    names: list[str] = []
    if fixed:
        names = [name for name in named(complaint, optional(sent), FIXED, 2) if name in OF_ONE_VALUE]
    for said in (EXACT, UNSET, NOT_TAKEN):
        names = names or named(complaint, optional(sent), said)
    return _all_left_out([name for name in names if name in OPTIONAL], complaint, learned)


# Fields that servers fix at one value.
OF_ONE_VALUE = ("temperature", "top_p", "logprobs", "top_logprobs")


def _all_left_out(names: list[str], complaint: Complaint, learned: Capabilities) -> Lesson | None:
    lessons = [leave_out(name, learned, complaint.text) for name in names]
    return Lesson(lessons[0].about, "; ".join(lesson.text for lesson in lessons)) if lessons else None


def _bare_switch(
    complaint: Complaint, sent: Mapping[str, Any], request: GenerationRequest, learned: Capabilities
) -> Lesson | None:
    """`logprobs: true` cannot be a wrong value, so a refusal that names it without a limit refers to the field
    itself."""
    if sent.get("logprobs") is not True or LIMIT_CODES.search(complaint.code):
        return None
    if LIMITED.search(complaint.text) or BUSY.search(complaint.text):
        return None
    by_path = set(complaint.path) & set(optional(sent))
    names = by_path or {name for name in optional(sent) if mentions(complaint.text, name)}
    if "logprobs" not in names or not names <= {"logprobs", "top_logprobs"}:
        return None
    return leave_out("logprobs", learned)


# The first that finds something in a complaint decides what it teaches.
RULES: tuple[Rule, ...] = (
    *(_insists, _unknown, _not_both, _constraint, limit, _counted, _not_taken, _system_role, _content_parts),
    _bare_switch,
)
# Of what is no plain refusal: a failure says nothing of a switch, and a prompt that is too long may state a length.
RULES_OF: dict[str, tuple[Rule, ...]] = {"busy": RULES[:-1], "too_long": (stated_length,)}
