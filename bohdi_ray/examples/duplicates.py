"""How often questions of a leaf nearly repeat each other. Pure; used in reports, never to reject anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from rapidfuzz import fuzz, process

from bohdi_ray.languages.questions import normalised
from bohdi_ray.languages.scripts import UNSPACED, script_of
from bohdi_ray.records import DomainPath

NEAR = 90  # per cent of characters that two questions have in common, their words in order of the alphabet
MOST_COMPARED = 1000  # questions of a leaf: comparing all of them with all takes quadratic time
MAX_COMPARED = 4000  # characters of a question: comparing takes quadratic time


def near_duplicate_rate(questions_by_leaf: Mapping[DomainPath, Iterable[str]]) -> float:
    """Share of questions that nearly repeat an earlier question of their leaf, ignoring word order; 0 if there are no
    questions.

    Only the first 4000 characters of a question are compared, and of a leaf only the first 1000 questions.
    """
    num_questions = num_near = 0
    for questions in questions_by_leaf.values():
        earlier: list[str] = []
        for question in islice(questions, MOST_COMPARED):
            text = _sorted_words(normalised(question[: 2 * MAX_COMPARED])[:MAX_COMPARED])
            if process.extractOne(text, earlier, scorer=fuzz.ratio, score_cutoff=NEAR) is not None:
                num_near += 1
            earlier.append(text)
        num_questions += len(earlier)
    return num_near / num_questions if num_questions else 0.0


def _sorted_words(text: str) -> str:
    """The words, sorted; in a script without spaces its letters, sorted and without spaces between them."""
    if text.isascii():
        return " ".join(sorted(text.split()))
    letters = [character for character in text if script_of(character) in UNSPACED]
    rest = "".join(" " if script_of(character) in UNSPACED else character for character in text)
    return " ".join([*sorted(rest.split()), "".join(sorted(letters))]).strip()
