"""Extracts the name that a model proposes, even if it wrote a whole list: takes one entry and removes the text around
it.

Called by `engines/prompts.py`. `tree/names.py` decides whether the name is valid. Linear in the length of the text, of
which only the beginning is read.
"""

from __future__ import annotations

import re

from bohdi_ray.languages import headings

_MAX_TEXT, _MAX_LINE = 4000, 400
MIN_PLAIN_LINES = 3  # that make a list though nothing numbers them; two are as often a name and what it is
_NUMBERED = re.compile(rf"[\s>#*_•·・–-]*+(?:{headings.NUMBER})")
_BULLETED = re.compile(rf"[\s>]*+(?:{headings.BULLET})")
_FENCE = re.compile(r"\s*+(?:`{3}|~{3})")
_LABEL = re.compile(rf"[*_#> ]*+(?:{headings.NAME})[*_]*\s*[:：]", re.I)
_ARTICLE = re.compile(r"(?:the|an?) ", re.I)
_UNFINISHED = re.compile(r"(?:^| )(?:of|the|and|or|for|in|on|to|with|an?|is|are|by|from|at|as)$", re.I)
_ANNOUNCES = re.compile(r"[:：][\s*_]*$")
# Where an entry begins to explain its name: "Physics: the study of matter", "Physics - ...", "Physics (a science)".
_EXPLAINED = re.compile(r"[:：(（]|\s[-–—]{1,2}\s")
_SENTENCE = re.compile(r"[,;:、，；：،؛](?!$)|[.!?。！？।؟]")


def listed_name(text: str, number: int) -> str:
    """The bare name in a proposal: entry `number` of a list, found by the entries' own numbers or else by their order;
    of any other text the first line. Bullet, number, label, quotes, article, explanation and full stop are removed.

    If the list is shorter than that number, counting wraps around. Lines before a list are not names, nor is a line
    that only announces something ("Of course:"). Not validated; empty if the text breaks off after a word like "of".
    """
    lines = [line[:_MAX_LINE] for line in text[:_MAX_TEXT].splitlines() if line.strip() and not _FENCE.match(line)]
    for entry in (_NUMBERED, _BULLETED):
        found = [mark for line in lines if (mark := entry.match(line)) is not None]
        if found:
            own = [mark for mark in found if "number" in mark.groupdict() and int(mark["number"] or 0) == number]
            mark = own[0] if own else found[(number - 1) % len(found)]
            line = _without_label(mark.string[mark.end() :])
            return _bare(_EXPLAINED.split(line, maxsplit=1)[0])
    lines = _plain_names(lines)
    return _bare(_without_label(lines[(number - 1) % len(lines)])) if lines else ""


def _plain_names(lines: list[str]) -> list[str]:
    """The lines that are names if nothing numbers them: all lines that may form a list, else the first."""
    announced = bool(lines) and _ANNOUNCES.search(lines[0]) is not None
    names = lines[1:] if announced else lines
    # A full stop behind every line is the writer's habit; behind some, those are sentences.
    stops = {_SENTENCE.search(line.strip()[-1:]) is not None for line in names}
    marks = headings.END_MARKS if len(stops) == 1 else None
    listed = not any(_SENTENCE.search(line.strip(marks)) for line in names)
    if announced:
        return names if listed else []
    return names if listed and len(names) >= MIN_PLAIN_LINES else names[:1]


def _without_label(line: str) -> str:
    return line[label.end() :] if (label := _LABEL.match(line)) is not None else line


def _bare(line: str) -> str:
    name = line.lstrip(" \t>#").strip(headings.END_MARKS)
    if (article := _ARTICLE.match(name)) is not None:
        name = name[article.end() :]
    return "" if _UNFINISHED.search(name) else name
