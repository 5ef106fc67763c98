"""Simplifies a judge's reply for the patterns of `languages/labels.py`, and keeps the original position of every
character. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from bohdi_ray.languages.scripts import IGNORABLE

HEAD, TAIL = 1000, 3000  # characters of a reply that are looked at, from either end
_BLANK, _REPEATED = re.compile(r"\s{3,}"), re.compile(r"([^\w\s])\1{3,}")


@dataclass(frozen=True, slots=True)
class Plain:
    """A simplified text; origins: [characters] is the position of each character in the original reply."""

    text: str
    origins: list[int]

    def replaced(self, pattern: re.Pattern[str], by: Callable[[re.Match[str]], str]) -> Plain:
        """The same with every match replaced; a replacement gets the position where its match began."""
        texts, origins, done = [], [], 0
        for match in pattern.finditer(self.text):
            new = by(match)
            texts += [self.text[done : match.start()], new]
            origins += self.origins[done : match.start()] + [self.origins[match.start()]] * len(new)
            done = match.end()
        return Plain("".join(texts) + self.text[done:], origins + self.origins[done:])


def plain_reply(text: str) -> Plain:
    """The beginning and end of a reply, with full-width and circled letters as plain ones, without invisible characters
    and without long runs of one mark or of spaces."""
    plain = Plain(text, list(range(len(text)))) if len(text) <= HEAD + TAIL else _ends(text)
    if not text.isascii():
        plain = plain.replaced(IGNORABLE, lambda _: "").replaced(_FOLDED, lambda match: _plain(match[0]))
    # The patterns have several places for space and marks side by side: a long run of one takes them powers of its
    # length to get over.
    first, last = len(plain.text) - len(plain.text.lstrip()), len(plain.text.rstrip())
    plain = Plain(plain.text[first:last], plain.origins[first:last])
    plain = plain.replaced(_BLANK, lambda run: "\n\n" if "\n" in run[0] else "  ")
    return plain.replaced(_REPEATED, lambda run: run[1] * 3)


def _ends(text: str) -> Plain:
    cut = len(text) - TAIL
    return Plain(f"{text[:HEAD]}\n…\n{text[cut:]}", [*range(HEAD), HEAD, HEAD, HEAD, *range(cut, len(text))])


_FOLDED = re.compile(r"[^\x00-\x7f]")


def _plain(character: str) -> str:
    folded = unicodedata.normalize("NFKC", character)
    if unicodedata.decomposition(character).startswith(("<wide>", "<circle>", "<font>")) and folded.isascii():
        return folded
    if "\u249c" <= character <= "\u24b5":  # ⒝
        return folded
    return character
