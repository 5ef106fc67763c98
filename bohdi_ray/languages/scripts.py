"""The script of a character, invisible characters, and character classes for patterns.

The standard library has no scripts, but the Unicode names of letters begin with them. Called by the rest of this room
and by the gates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# Names of characters that do not begin with their script's name, or whose script goes by another one here.
_RENAMED = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}
_NO_SCRIPT = frozenset({"COMBINING", "MODIFIER", "SPACING"})
_TWO_WORDS = frozenset({"OLD", "TAI", "NEW", "OL", "SORA", "PAU", "LINEAR", "MEROITIC", "CANADIAN", "SYLOTI"})
_WIDTHS = frozenset({"FULLWIDTH", "HALFWIDTH"})

# Scripts that put no space between words.
SOUTHEAST_ASIAN = frozenset(
    {"THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE", "BALINESE", "TAI LE", "NEW TAI", "TAI THAM", "CHAM"}
)
UNSPACED = frozenset({"HAN", "KANA", "YI"}) | SOUTHEAST_ASIAN
# Scripts whose characters are whole syllables.
SYLLABIC = frozenset({"KANA", "HANGUL", "YI", "ETHIOPIC", "CHEROKEE", "CANADIAN ABORIGINAL", "VAI", "BOPOMOFO"})

# Characters that show as nothing though some of them count as letters or marks (Unicode: Default_Ignorable_Code_Point).
_IGNORABLE_RANGES = (
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
IGNORABLE = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _IGNORABLE_RANGES) + "]")
_LAST_MARK = 0x20000
# Where letters of scripts are, but for ideographs and syllables of Hangul, which are known without looking.
_BASIC = (range(0x0041, 0x3400), range(0xA000, 0xAC00), range(0xD7B0, 0xD800), range(0xFB00, 0x10000))
_SUPPLEMENTARY = range(0x10000, 0x1F000)
_SYLLABLES = "\uac00-\ud7a3"
_IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@lru_cache(maxsize=1 << 14)
def script_of(character: str) -> str:
    """The script of a letter or vowel sign, in capitals ("LATIN", "HAN", "KANA" for both kinds, "DEVANAGARI"); "" for
    characters that belong to many scripts or to none: accents, digits, punctuation."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "").replace("-", " ", 1).split()
    if words and words[0] in _WIDTHS:
        words = words[1:]
    if not words or words[0] in _NO_SCRIPT:
        return ""
    first = " ".join(words[:2]) if words[0] in _TWO_WORDS else words[0]
    return _RENAMED.get(first, first)


def stream_safe(text: str) -> str:
    """The text with no more than 30 combining marks in a row (Unicode Standard Annex 15, stream-safe text format): a
    longer run is sorted in quadratic time, half a minute for a megabyte of marks."""
    if text.isascii() or _long_run().search(text) is None:
        return text
    kept, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > 30:
            kept.append("\u034f")  # combining grapheme joiner: a mark that ends a run
            run = 1
        kept.append(character)
    return "".join(kept)


@lru_cache(maxsize=1)
def _long_run() -> re.Pattern[str]:
    return re.compile(f"[{marks_class()}]{{31}}")


def composed(text: str) -> str:
    """The text in NFC, in linear time: one encoding for letters with accents."""
    return text if text.isascii() else unicodedata.normalize("NFC", stream_safe(text))


def ranges_of(characters: Iterable[str]) -> str:
    """Characters as the inside of a class in a pattern; `characters` are in order."""
    parts: list[list[str]] = []
    for character in characters:
        if parts and ord(character) == ord(parts[-1][1]) + 1:
            parts[-1][1] = character
        else:
            parts.append([character, character])
    return "".join(re.escape(first) + (f"-{re.escape(last)}" if first != last else "") for first, last in parts)


def letter_list(script: str, marks: bool = False) -> list[str]:
    """All letters of one script in order, or with `marks` also its combining marks; ideographs and syllables apart."""
    codes = _codes_by_script(False).get(script) or _codes_by_script(True).get(script, [])
    return [chr(code) for code in codes if marks or unicodedata.category(chr(code))[0] == "L"]


@lru_cache(maxsize=64)
def letters_of(script: str, marks: bool = False) -> str:
    """The same as the inside of a class in a pattern, ideographs and syllables included."""
    if script == "HAN":
        return _IDEOGRAPHS
    return (_SYLLABLES if script == "HANGUL" else "") + ranges_of(letter_list(script, marks))


@lru_cache(maxsize=2)
def _codes_by_script(supplementary: bool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for codes in [_SUPPLEMENTARY] if supplementary else _BASIC:
        for code in codes:
            character = chr(code)
            if (script := script_of(character)) and not IGNORABLE.match(character):
                found.setdefault(script, []).append(code)
    return found


@lru_cache(maxsize=1)
def marks_class() -> str:
    """All combining marks of all scripts, as the inside of a class in a pattern."""
    codes = range(0x300, _LAST_MARK)
    return ranges_of(chr(code) for code in codes if unicodedata.category(chr(code))[0] == "M")


def letters_class(scripts: frozenset[str]) -> str:
    """All letters of these scripts, without their marks, as the inside of a class in a pattern."""
    return "".join(letters_of(script) for script in sorted(scripts))
