"""Names of domains in any script: their letters, their length, their title case, and when two names are the same.

Called by tree/names.py, whose `valid_name` is the rule, and by name_grammar.py, which writes it as a grammar.
The paper's rule, 1 to 3 words of letters, holds wherever spaces divide words. docs/languages.md has examples.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from bohdi_ray.languages.length import weighted_length
from bohdi_ray.languages.scripts import IGNORABLE, UNSPACED, script_of

MAX_WORDS = 3
MAX_SYLLABLES = 6  # Vietnamese puts a space between syllables, about two to a word
MAX_LENGTH = 60  # of a whole name: no real domain comes near; keeps runaway text out of paths and prompts
MAX_UNSPACED = 36  # of a name in a script without spaces: 12 ideographs, 18 kana, 36 letters of Thai
MAX_MARKS = 4  # on one letter
# Which scripts may meet in one word, as they do in CJK text; otherwise a word keeps to one, or it may pass for another.
_TOGETHER = (
    frozenset({"HAN", "KANA", "LATIN"}),
    frozenset({"HAN", "BOPOMOFO", "LATIN"}),
    frozenset({"HANGUL", "HAN", "LATIN"}),
)
VIETNAMESE_LETTERS = re.compile("[ơưƠƯ\u1ea0-\u1ef9]")
_JOINERS = re.compile("(?<=[\u0620-\u08ff])\u200c(?=[\u0620-\u08ff])")
_MIDDLE_DOTS = re.compile("(?<=[\u3040-\u30ff\u3400-\u9fff])[・·](?=[\u3040-\u30ff\u3400-\u9fff])")
_APOSTROPHES = re.compile("(?<=[\u0400-\u04ff])['’](?=[\u0400-\u04ff])")
TSHEG = "\u0f0b"  # between the syllables of a Tibetan word


def folded_name(text: str) -> str:
    """One spelling for widths, ligatures and accents. A Persian joiner and a middle dot between ideographs or kana are
    word breaks; an Indic joiner goes; an apostrophe between Cyrillic letters becomes the letter that it is."""
    text = unicodedata.normalize("NFKC", text)
    text = text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")  # NFKC takes Thai and Lao AM apart
    if text.isascii():
        return text
    text = _APOSTROPHES.sub("\u02bc", _MIDDLE_DOTS.sub(" ", _JOINERS.sub(" ", text)))
    return _after_virama(text) if "\u200c" in text or "\u200d" in text else text


def _after_virama(text: str) -> str:
    kept = ""
    for character in text:
        if character in "\u200c\u200d" and kept and unicodedata.combining(kept[-1]) == 9:
            continue
        kept += character
    return kept


def is_word(word: str) -> bool:
    """Whether the text consists only of letters with their marks, of scripts that may be mixed in one word."""
    if word.isascii():
        return word.isalpha()
    if IGNORABLE.search(word):
        return False
    marks = 0
    for place, character in enumerate(word):
        category = unicodedata.category(character)
        if category in ("Mn", "Mc"):
            marks += 1
            if place == 0 or marks > MAX_MARKS:
                return False
        elif category[0] == "L" or (character == TSHEG and 0 < place < len(word) - 1):
            marks = 0
        else:
            return False
    scripts = frozenset(map(script_of, word)) - {""}
    return len(scripts) == 1 or any(scripts <= together for together in _TOGETHER if scripts)


def fits(name: str) -> bool:
    """Whether a name, with single spaces between words, is short enough."""
    if name.isascii():
        return name.count(" ") < MAX_WORDS and len(name) <= MAX_LENGTH
    limit = MAX_UNSPACED if any(script_of(c) in UNSPACED for c in name) else MAX_LENGTH
    words = MAX_SYLLABLES if VIETNAMESE_LETTERS.search(name) else MAX_WORDS
    return name.count(" ") < words and len(name) <= MAX_LENGTH and weighted_length(name) <= limit


def titled(word: str) -> str:
    """The word in title case; letters without case stay. Not `str.title`, which starts a new word after every mark."""
    first = word[:1].lower() if len(word[:1].lower()) == 1 else word[:1]
    first = first.title() if len(first.title()) == 1 else first  # ß and such keep the case they have
    return first + word[1:].replace("İ", "i").lower()


@lru_cache(maxsize=1 << 16)
def name_key(name: str) -> str:
    """The key that all spellings of a name share: without case, width, encoding of accents, dots of i or Arabic
    strokes."""
    if name.isascii():
        return name.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return folded.replace("i\u0307", "i").replace("ı", "i").replace("\u0640", "")
