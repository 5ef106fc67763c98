"""Measures the length of a text in units that are fair to all scripts. Called by the gates; docs/languages.md has
examples.

`characters`: Unicode code points, the paper's. `weighted`: what a character of ordinary prose says, measured in letters
of an alphabet, so that about as much must be said in every language:
- an ideograph counts 3, a character that is a whole syllable (kana, Hangul, Ethiopic) 2
- a letter of any alphabet, a digit, a symbol, a punctuation mark, an emoji and its joined parts count 1
- a vowel sign of an Indic or Southeast Asian script counts 1, for it is a letter of the word
- accents, tone marks, Arabic and Hebrew points and whatever shows as nothing count 0
- space of any length counts 1 between other characters, and 0 around the text
So a text counts the same composed or decomposed, pointed or not, and no padding makes it longer.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Literal

from bohdi_ray.languages.scripts import IGNORABLE, SYLLABIC, composed, script_of

LengthUnit = Literal["weighted", "characters"]

IDEOGRAPH, SYLLABLE = 3, 2
_SPACED_VOWEL_CLASSES = (0, 103, 118)  # combining classes of vowel signs: most scripts; below a letter in Thai, in Lao
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_JOINED = re.compile("\u200d[^\\w\\s]")


def length(text: str, unit: LengthUnit) -> int:
    """The length of `text` in `unit`."""
    return len(text) if unit == "characters" else weighted_length(text)


def weighted_length(text: str) -> int:
    """The length of `text` in units of one letter, as described at the top of this file."""
    if not text.isascii():
        text = _FLAG.sub("\U0001f1e6", composed(IGNORABLE.sub("", _JOINED.sub("", text))))
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(weight(character) * number for character, number in Counter(text).items())


@lru_cache(maxsize=1 << 14)
def weight(character: str) -> int:
    """The weight of one character."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co") or IGNORABLE.match(character):
        return int(character in "\t\n")
    if category[0] == "M":
        vowel = category != "Me" and unicodedata.combining(character) in _SPACED_VOWEL_CLASSES
        return int(vowel)
    if "\U0001f3fb" <= character <= "\U0001f3ff":  # skin tones
        return 0
    if category[0] != "L":
        return 1
    script = script_of(character)
    if script == "HAN":
        return IDEOGRAPH
    if "\u1160" <= character <= "\u11ff":  # vowels and finals of Hangul that no syllable was composed of
        return 0
    return SYLLABLE if script in SYLLABIC else 1
