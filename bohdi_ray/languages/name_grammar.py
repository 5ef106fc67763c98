"""The rule for names (`names.py`) as a grammar for structured outputs: the allowed replies to a sprout prompt.

A name may be written in every script that the prompt is written in, and in Latin letters. Under a prompt in ASCII, such
as the package's own, names are of ASCII letters. Called by `harvest/sprout.py`; pure.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise

from bohdi_ray.languages.names import VIETNAMESE_LETTERS
from bohdi_ray.languages.scripts import SOUTHEAST_ASIAN, letter_list, letters_of, ranges_of, script_of

# Latin letters under a prompt in Vietnamese: its words are syllables, so names have more of them.
VIETNAMESE = "VIETNAMESE"
_HAN_GROUPS, _FIRST_HAN, _NUM_HAN = 26, 0x4E00, 0x9FFF - 0x4E00 + 1
_HANGUL_GROUPS, _FIRST_HANGUL, _PER_CONSONANT = 19, 0xAC00, 588


def name_scripts(prompt: str) -> frozenset[str]:
    """The scripts in which names may be written under this prompt; empty if its letters, and so the names, are
    ASCII."""
    foreign = {script for script in map(script_of, set(prompt)) if script} if not prompt.isascii() else set()
    if not any(script_of(character) for character in set(prompt) if not character.isascii()):
        return frozenset()  # a dash or an emoji is no other alphabet
    latin = VIETNAMESE if VIETNAMESE_LETTERS.search(prompt) else "LATIN"
    return frozenset({script for script in foreign - {"LATIN"} if initial_groups(script)} | {latin})


@lru_cache(maxsize=64)
def initial_groups(script: str) -> tuple[str, ...]:
    """The possible initials of names in a script, grouped by similarity: a letter with all its accents, the syllables
    of one consonant, ideographs with similar radicals. Each group is the inside of a regular-expression class."""
    if script == "HAN":
        edges = [_FIRST_HAN + _NUM_HAN * i // _HAN_GROUPS for i in range(_HAN_GROUPS + 1)]
        return tuple(f"{chr(first)}-{chr(end - 1)}" for first, end in pairwise(edges))
    if script == "HANGUL":
        firsts = [_FIRST_HANGUL + _PER_CONSONANT * i for i in range(_HANGUL_GROUPS)]
        return tuple(f"{chr(first)}-{chr(first + _PER_CONSONANT - 1)}" for first in firsts)
    letters = [
        letter
        for letter in letter_list("LATIN" if script == VIETNAMESE else script)
        if unicodedata.normalize("NFKC", letter) == letter  # forms and widths of letters are no letters of their own
    ]
    initials = [letter for letter in letters if unicodedata.category(letter) == "Lu"] or letters
    groups: dict[str, list[str]] = {}
    for letter in initials:
        groups.setdefault(_base_letter(letter), []).append(letter)
    return tuple(ranges_of(members) for _, members in sorted(groups.items()))


def any_initials(scripts: Collection[str]) -> dict[str, str]:
    """All initials of all scripts, in the format of `name_regex`."""
    return {script: "".join(initial_groups(script)) for script in sorted(scripts)}


def name_regex(number: int, initials: str | Mapping[str, str] = "A-Z") -> str:
    """The grammar of the reply to a sprout prompt: entry `number` of a list, a name of 1 to 3 words of letters.

    It begins with the entry's number because small models write sentences when they may begin with a word. `initials`
    are those a name may begin with: of ASCII letters, or by script. For vLLM's structured outputs.
    """
    if isinstance(initials, str):
        return rf"{number}\. [{initials}][A-Za-z]{{1,15}}( [A-Za-z]{{2,16}}){{0,2}}[:.,\n]?"
    names = "|".join(_name(script, inside, initials) for script, inside in initials.items())
    return rf"{number}\. ({names})[:.,。，、：\n]?"


def _name(script: str, initials: str, scripts: Collection[str]) -> str:
    if script in ("HAN", "KANA"):  # one run, Latin letters among it
        kana = letters_of("KANA") if "KANA" in scripts else ""
        return rf"[{initials}][A-Za-z{letters_of('HAN')}{kana}]{{1,{17 if kana else 11}}}"
    if script == VIETNAMESE:
        return rf"[{initials}][{letters_of('LATIN')}]{{0,7}}( [{letters_of('LATIN')}]{{1,8}}){{0,5}}"
    letters = letters_of(script, marks=True)
    if script in SOUTHEAST_ASIAN:
        return rf"[{initials}][{letters}]{{1,35}}"
    if script == "HANGUL":
        return rf"[{initials}][{letters}]{{0,11}}( [{letters}]{{1,12}}){{0,2}}"
    return rf"[{initials}][{letters}]{{1,27}}( [{letters}]{{1,28}}){{0,2}}"


def _base_letter(letter: str) -> str:
    """The letter without marks written on or through it."""
    base = unicodedata.normalize("NFD", letter)[0]
    named = unicodedata.name(base, "").partition("LATIN CAPITAL LETTER ")[2]  # "O WITH STROKE", "AE"
    return named[0] if named else base
