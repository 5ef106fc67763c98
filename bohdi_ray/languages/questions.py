"""Defines when two questions are the same: normalises a question to the text that both have in common. Pure, linear in
the length of the text.

Called by `records.py`, whose hash of it decides on repeated questions and on held-out membership, and by reports.
Normalising must keep everything that changes the meaning, because otherwise a different question would be refused as a
repeat. If a difference may be one of style or of meaning, the two questions stay different. docs/languages.md has the
list.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from bohdi_ray.languages.scripts import IGNORABLE, UNSPACED, composed, letters_class, ranges_of, script_of

# Raised whenever a question's text or hash, or what the gates let pass, changes for texts of before: a run that began
# under other rules would take its own questions for new ones, and trained ones for held-out ones.
TEXT_RULES = 3

_DOUBLE_QUOTES = '"`“”„‟«»「」『』《》〝〞'
_SINGLE_QUOTES = "'’‘‚‛‹›"
_ALWAYS_PROSE = re.compile(r"[。।॥۔¿¡፧።፣፤᠂᠃՞՝։၊။།༎។៕׃]")
_MARKS_OF_SCRIPTS = str.maketrans("、،؛؟", ",,;?")
_PRIME, _SECOND = "\ue000", "\ue001"
# f', x'', 5', 10": marks that belong to one letter or a number that no quotation mark opens.
_PRIMED = re.compile(r"(?<![\w'\"])([a-zα-ωа-я]|\d+(?:[.,]\d+)?)('{1,3}|\")(?!\w)")
_QUOTES = re.compile(r"\"|(?<!\w)'|'(?!\w)")
_SPACED_DASH = re.compile(r"(?<= )[-–—―]{1,3}(?= )")
_TIGHT_DASH = re.compile(r"(?<=[^\W\d_])(?:[—―]|--)(?=[^\W\d_])")
# A run of marks that a space or a closing bracket follows, or that ends the text. Possessive: each run is read once.
_PROSE = re.compile(r"(?<![,;:?!.…])[,;:?!.…]++(?=[\s)\]}]|$)")


def normalised(question: str) -> str:
    """The question without case, encoding of accents and widths, quotation marks, punctuation of prose and spacing.

    Operators, symbols, numbers with their separators, brackets, superscripts and all marks of scripts stay.
    """
    text = question if question.isascii() else _folded(question)
    text = " ".join(_caseless(text).split())
    text = _without_quotes(text)
    text = _TIGHT_DASH.sub(" ", _SPACED_DASH.sub(_dash, text))
    text = text.replace("–", "-").replace("—", "-").replace("―", "-").replace("−", "-")
    if not text.isascii():
        text = _ALWAYS_PROSE.sub(" ", text.translate(_MARKS_OF_SCRIPTS))
        text = " ".join(_around_unspaced().sub(_spaced, text).split())
    text = _PROSE.sub(_prose, text)
    return _spaces(text.isascii()).sub("", " ".join(text.split()))


def _folded(text: str) -> str:
    """One encoding for accents, widths and forms of letters; superscripts as ^2, subscripts as _2, fractions as 1/2."""
    table = {ord(c): _compatible(c) for c in set(text) if not c.isascii()}
    return composed(IGNORABLE.sub("", composed(text.translate(table))))


def _compatible(character: str) -> str:
    kind, _, _ = unicodedata.decomposition(character).partition(" ")
    if character in "\u2010\u2011":
        return "-"
    if character in "\u0640\u200c\u200d" or not kind.startswith("<"):
        return "" if character == "\u0640" else character
    if kind in ("<super>", "<sub>"):
        return ("^" if kind == "<super>" else "_") + unicodedata.normalize("NFKC", character)
    if kind == "<fraction>":
        return " " + unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    if kind == "<circle>" or (kind == "<font>" and not "\U0001d400" <= character <= "\U0001d7ff"):
        return character  # a number in a circle is no number, the set of real numbers is no letter R
    return unicodedata.normalize("NFKC", character)


def _caseless(text: str) -> str:
    """Case folded, but ß stays: Maße are not Masse. Turkish İ becomes i, and ı stays."""
    if text.isascii():
        return text.lower()
    folded = "ß".join(part.casefold() for part in text.replace("ẞ", "ß").split("ß"))
    return composed(folded).replace("i\u0307", "i")


def _without_quotes(text: str) -> str:
    text = text.translate(_QUOTE_TABLE)
    if '"' not in text and "'" not in text:
        return text.replace(_PRIME, "'").replace(_SECOND, "''")
    text = _PRIMED.sub(lambda m: m[1] + m[2].replace("'", _PRIME).replace('"', _SECOND), text)
    return _QUOTES.sub("", text).replace(_PRIME, "'").replace(_SECOND, "''")


_QUOTE_TABLE = {ord(c): '"' for c in _DOUBLE_QUOTES} | {ord(c): "'" for c in _SINGLE_QUOTES}
_QUOTE_TABLE |= {0x2032: _PRIME, 0x2033: _SECOND, 0x02BC: "'"}


def _dash(found: re.Match[str]) -> str:
    """A dash between spaces is minus beside an operand, else punctuation."""
    text, start, end = found.string, found.start(), found.end()
    if _is_operand_end(text, start - 2) or _is_operand_end(text, end + 1, forward=True):
        return found[0]
    return ""


def _is_operand_end(text: str, at: int, forward: bool = False) -> bool:
    """Whether the word at this place is a number, one letter, or something in brackets or symbols."""
    if not 0 <= at < len(text):
        return False
    character = text[at]
    if character.isdigit():
        return True
    if not character.isalpha():
        return character not in ",;:.?!\"'…" and unicodedata.category(character)[0] in "PS"
    beyond = at + 1 if forward else at - 1
    if not 0 <= beyond < len(text) or not (text[beyond].isalnum() or unicodedata.category(text[beyond])[0] == "M"):
        return True
    # The n of 求n!的 is a word: no letter of a script without spaces belongs to it.
    return script_of(text[beyond]) in UNSPACED and script_of(character) not in UNSPACED


def _is_member(text: str, at: int, forward: bool = False) -> bool:
    """As `_is_operand_end`, for text between separators: a letter of a script without spaces may begin any sentence."""
    return _is_operand_end(text, at, forward) and script_of(text[at]) not in UNSPACED


def _prose(found: re.Match[str]) -> str:
    """What is left of a run of marks: a factorial's, one between two operands, an ellipsis among members of a list."""
    text, marks, start, end = found.string, found[0], found.start(), found.end()
    before = text[start - 1] if start else ""
    member = before != " " and _is_member(text, start - 1)
    if marks[0] == "!" and (before == ")" or member):
        return "!" * (len(marks) - len(marks.lstrip("!")))
    divides = before == " " or marks in (",", ";", ":")  # x, y; 3 : 5; a ? b : c
    if divides and _is_member(text, start - 1 - (before == " ")) and _is_member(text, end + 1, forward=True):
        return marks
    if "..." in marks or "…" in marks:  # 1, 2, ..., n; 1+2+… =; 1,2,…
        if member and marks[0] in ",;":
            return "..."
        if marks[0] in ".…" and end < len(text) and (member or before == " "):
            return "..."
    return ""


@lru_cache(maxsize=1)
def _around_unspaced() -> re.Pattern[str]:
    """Punctuation beside a letter of a script without spaces; behind one the point of .5 is none."""
    letters = letters_class(UNSPACED)
    return re.compile(
        rf"(?<=[{letters}])(?!\.\d)(?P<behind>[,;:?!.…]++)|(?<![{letters},;:?!.…])[,;:?!.…]++(?=[{letters}])"
    )


def _spaced(found: re.Match[str]) -> str:
    """A run of marks after such a letter is prose; before one it is treated as if it were before a space."""
    return " " if found["behind"] is not None else found[0] + " "


@lru_cache(maxsize=2)
def _spaces(ascii_only: bool) -> re.Pattern[str]:
    """Space that is not between words: beside a symbol, or beside a letter of a script that has none."""
    if ascii_only:
        return re.compile(r" (?![a-z0-9_])|(?<![a-z0-9_]) ")
    symbols = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code))[0] in "PS" and code != 0x5F]
    inside = ranges_of(symbols) + letters_class(UNSPACED)
    return re.compile(rf" (?=[{inside}])|(?<=[{inside}]) ")
