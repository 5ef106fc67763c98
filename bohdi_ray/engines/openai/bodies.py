"""Reads what the body of an error response says is wrong, in all its common formats. Pure; called by troubles.py.

Every object of a body is one complaint: all its texts together, with the field and the code that it names. Nested
objects, and JSON quoted as text, come before the objects around them. Text that a server repeats from the request is
left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

MAX_SAID = 2000  # characters of what a server says that are looked at, told and logged
DEPTH = 6  # of JSON inside of JSON
MOST = 20  # complaints, and items of one list; of an object's names, and of brackets in a text, a few more
JOINT = ";\n"  # between the texts of one object: the end of a sentence

# Names as `_plain` writes them. Texts by the stem of their name, the most exact first.
_TEXTS = tuple(re.compile(stem) for stem in ("desc|detail|cause|raw|violation|issue", "message|msg|fault", "error"))
_TEXTS = (*_TEXTS, re.compile("reason|hint"), re.compile("title"))
_NO_TEXT = re.compile("(id|ur[il]|link|code|type|name|time|stamp|status|stack|trace|traceback|number|level|severity)$")
_CODE = ("code", "type", "errortype", "status", "errcode", "errorcode")
_WHERE = ("loc", "param", "parameter", "params", "field", "target", "name", "path", "property", "keys")
# What was sent, or what was wrong with it as a value.
_REPEATED = re.compile("^(input|prompt|request|received|given|got|provided|value|actual|ctx|flaggedinput)")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One error that a server reports about a request."""

    text: str
    path: tuple[str, ...] = ()  # of the field, where the server names it apart from the text
    code: str = ""  # the server's word for the kind of error


def complaints_in(body: str) -> tuple[Complaint, ...]:
    """All complaints in a body, the most specific first."""
    return tuple(dict.fromkeys(islice(_complaints(_json(body), DEPTH), MOST)))


def speaks(value: Mapping[str, Any]) -> bool:
    """Whether an object has text."""
    return any(isinstance(item, str | dict | list) and _rank(name) is not None for name, item in value.items())


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with normalised names, such as `errormessage`, which servers spell in many ways."""
    return {_plain(name): item for name, item in value.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _rank(name: str) -> int | None:
    """The rank of a text field of this name, 0 for the most specific; None if it is not a text field."""
    name = _plain(name)
    if _NO_TEXT.search(name):
        return None
    ranks = [rank for rank, stem in enumerate(_TEXTS) if stem.search(name)]
    return min(ranks, default=None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _complaints(value: Any, depth: int, spoken: bool = True) -> Iterator[Complaint]:
    """`spoken`: whether plain texts in a list are said by the server, rather than names and values."""
    if depth == 0:
        return
    if isinstance(value, str):
        inner = _quoted_json(value)
        if inner is not None:
            yield from _complaints(inner, depth - 1)
        elif value.strip() and spoken:
            yield Complaint(value.strip()[:MAX_SAID])
    elif isinstance(value, list):
        for item in value[:MOST]:
            yield from _complaints(item, depth - 1, spoken)
    elif isinstance(value, dict) and "role" not in value and not {"model", "messages"} <= value.keys():
        yield from _of_object(value, depth)


def _of_object(value: dict[str, Any], depth: int) -> Iterator[Complaint]:
    fields = plain(value)
    code = " ".join(str(fields[key]) for key in _CODE if isinstance(fields.get(key), str | int))
    path = next((found for key in _WHERE if (found := _path(fields.get(key)))), ())
    texts: list[tuple[int, str]] = []
    num_inner = 0
    for name, item in islice(value.items(), 3 * MOST):
        if _REPEATED.search(_plain(name)):
            continue
        rank = _rank(name)
        inner = _quoted_json(item) if isinstance(item, str) else item
        if isinstance(inner, dict | list):
            for complaint in _complaints(inner, depth - 1, rank is not None):
                num_inner += 1
                yield complaint
        elif isinstance(item, str) and item.strip() and rank is not None:
            texts.append((rank, item.strip()))
    if texts:
        told = list(dict.fromkeys(text for _, text in sorted(texts, key=lambda pair: pair[0])))
        text = JOINT.join(text.rstrip(" .;") for text in told) if len(told) > 1 else told[0]
        yield Complaint(text[:MAX_SAID], path, code)
    elif not num_inner and code:
        yield Complaint(code, path, code)
    elif not num_inner:  # {"seed": ["Unknown field."]}
        for name, said in islice(value.items(), MOST):
            for text in [said] if isinstance(said, str) else said if isinstance(said, list) else ():
                if isinstance(text, str) and text.strip() and not _REPEATED.search(_plain(name)):
                    yield Complaint(f"{name}: {text.strip()}"[:MAX_SAID], (name,))


def _quoted_json(text: str) -> Any:
    """The JSON object or list that a text is, or ends with; None for any other text."""
    if not text.rstrip().endswith(("}", "]")):
        return None
    for start in (0, *(m.start() for m in islice(re.finditer(r"[\[{]", text[:400]), 3 * MOST))):
        candidate = text[start:].strip()
        inner = _json(candidate) if candidate[:1] in ("{", "[") else None
        if (isinstance(inner, dict) and inner) or (isinstance(inner, list) and any(isinstance(i, dict) for i in inner)):
            return inner
    return None


def _path(where: Any) -> tuple[str, ...]:
    """("messages", "0", "role") of "messages[0].role", "/messages/0/role" or ["body", "messages", 0, "role"]."""
    if isinstance(where, str):
        where = re.findall(r"[^.\[\]'\"\s/#$]+", where)
    if not isinstance(where, list | tuple):
        return ()
    names = tuple(str(name) for name in where if isinstance(name, str | int))
    return names[1:] if names[:1] in (("body",), ("extra_body",)) else names
