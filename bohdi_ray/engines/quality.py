"""The quality gates for text: pure functions that return why a text is rejected, or None.

Called by `harvest/` for questions and answers. Owns every threshold that is not configured. Never asks a model.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from bohdi_ray.languages.length import LengthUnit, length, weight, weighted_length
from bohdi_ray.languages.refusals import GREETINGS, Declined, declined_by
from bohdi_ray.languages.scripts import SOUTHEAST_ASIAN, composed, letters_class, marks_class

Rejection = Literal["empty", "truncated", "too_short", "refusal", "repetitive", "prompt_too_long", "request_failed"]

# A tail that is one string again and again: so many repeats, over at least so much text (`languages/length.py`), within
# this window.
TAIL_CHARS = 2000
MIN_TAIL_REPEATS = 4
MIN_LOOP_LENGTH = 160
MIN_RULE_CHARS = 1000  # for strings without a letter or digit: table rules, lines of dashes
# Word sequences: a text of so many words loops when more than this share of its n-grams occurred before in it. Where
# there is no space between words their letters count: about three to a word in Southeast Asia.
NGRAM = 12
MIN_WORDS = 60
LETTERS_PER_WORD = 3
MAX_REPEATED_SHARE = 0.5
MAX_REFUSAL_LENGTH = 600  # behind the declining phrase; what goes on for longer says something
MAX_LOOSE_LENGTH = 160  # the same where all that is known is that the writer cannot do something

# A loop in a numbered list still counts up, so the numbers in front of lines are not words.
_ENUMERATOR = re.compile(r"^[ \t]*\d+[.):、．）：]", re.M)
# Question marks of all scripts; Greek writes a semicolon.
_QUESTION_MARK = re.compile(r"[?？؟⸮՞፧︖﹖\u037e]|[\u0370-\u03ff\u1f00-\u1fff][\])»”\"]*;")
# Points that Arabic and Hebrew are mostly written without, and the stroke that stretches Arabic words.
_POINTS = re.compile("[\u0610-\u061a\u0640\u064b-\u065f\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
_CANNOT = (
    r"(?:can'?t|can ?not|won'?t be able to|will not be able to|won'?t|will not|am unable to|'m unable to"
    r"|am not able to|'m not able to|must decline to)"
)
_HELPING = (
    r"(?:assist|help(?! (?:but|feeling|thinking|wondering))|provide|answer|fulfil+|comply|do that|create|generate|write"
    r"|discuss|continue|engage|respond|offer|give|support|participate|complete|process|access|browse)\b"
)
_MACHINE = r"an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)"
# Verbose patterns: their own spaces are escaped, and so must those of their parts be. Repeats at the start are
# possessive, or a text of blank lines would take half a second.
_CANNOT, _HELPING = _CANNOT.replace(" ", r"\ "), _HELPING.replace(" ", r"\ ")
_SORRY = (
    r"(?:(?:i'?m|i am) (?:very |really |so |deeply |terribly )?(?:sorry|afraid)(?: to say)?|(?:i'?m|i am) afraid|sorry"
    r"|(?:my |please accept my )?(?:sincere |deepest )?apologies|i (?:sincerely )?apologi[sz]e|i regret(?: to say)?)"
    r"(?: that)?"
).replace(" ", r"\ ")
_GREETING = rf"(?:(?:{GREETINGS})[\s,.!]++)?+".replace(" ", r"\ ")
_REFUSAL = re.compile(
    rf"""\W*+{_GREETING}(?:{_SORRY}|unfortunately|no)?
    [\s,.:;-]*+(?:but|however)?[\s,]*+
    (?:as\ {_MACHINE}\b[^.!?\n]{{0,60}}?,?\ )?
    (?:
        i\s?{_CANNOT}\ (?:directly\ |actually\ )?{_HELPING}
      | i(?:'m|\ am)\ (?:just\ |only\ )?{_MACHINE}\b[^.\n]{{0,60}}(?:{_CANNOT}|don'?t\ have)
      | as\ {_MACHINE}\b[^.\n]{{0,40}}\bi\ (?:{_CANNOT}|do\ not|don'?t)
      | i\ (?:do\ not|don'?t)\ have\ (?:the\ ability|access|enough\ information|personal)
      | (?:i'?m|i\ am)\ not\ (?:able\ to|comfortable\ (?:with|\w+ing))\b
      | i\ (?:do\ not|don'?t)\ feel\ comfortable\ (?:with|\w+ing)\b
      | i\ (?:must|have\ to|will\ have\ to)\ (?:respectfully\ |politely\ )?
        (?:decline|refuse)(?=[.!]|\ (?:to|this|that|your|the\ request|answering|providing)\b)
    )""",
    re.I | re.X,
)
# Behind a sorry of its own any verb will do where little else is said, but for what one says in a story or a letter.
_LOOSE_REFUSAL = re.compile(
    rf"""[\s*_\#>]*+{_GREETING}{_SORRY}[\s,.:;-]*+(?:but|however)?[\s,]*+
    i\s?{_CANNOT}\ (?:directly\ |actually\ )?
    (?!(?:agree|believe|imagine|overstate|stress|emphasi[sz]e|stop|wait|stay|come|join|attend|go|be|make\ it|think\ of
        |help\ (?:but|feeling|thinking|wondering)|stand|bear|resist|remember|forget|see\ why|see\ how)\b)\w
    """,
    re.I | re.X,
)
# What makes a declining sentence the beginning of an answer: "but here is", "but I can explain", "which is why".
_GOES_ON = re.compile(
    r"""\b(?:
        here(?:'s|\ is|\ are)
      | which\ is\ why
      | let(?:'s|\ us)\ (?:start|begin|try|look|see|take|assume|estimate|work|suppose)
      | let\ me\ (?:explain|show|walk|outline|describe|start|try|give)
      | (?:but|however|still|instead),?\ (?:
            in\ general | generally | typically | usually | as\ far\ as | based\ on | from\ what
          | i\ (?:can|could|will|would)\ (?:still\ )?(?:explain|show|tell|outline|describe|estimate|sketch|summari[sz]e)
        )
    )\b""",
    re.I | re.X,
)


def answer_problem(
    text: str, finish_reason: str | None, min_length: int, unit: LengthUnit = "weighted"
) -> Rejection | None:
    """Why an answer is not eligible (method, section 4, point 4), or None; it must be longer than `min_length`."""
    if not text.strip():
        return "empty"
    if finish_reason == "length":
        return "truncated"
    if length(text, unit) <= min_length:
        return "too_short"
    if is_refusal(text):
        return "refusal"
    return "repetitive" if is_repetitive(text) else None


def question_problem(
    text: str, finish_reason: str | None, min_length: int, unit: LengthUnit = "weighted"
) -> Rejection | None:
    """Why a question cannot be used (method, section 4, point 2), or None.

    In a conversation a person may begin with "I can't write ...", so this counts as a refusal only without a question
    mark.
    """
    reason = answer_problem(text, finish_reason, min_length, unit)
    if reason == "refusal" and _QUESTION_MARK.search(text):
        return "repetitive" if is_repetitive(text) else None
    return reason


def is_refusal(text: str) -> bool:
    """Whether a text begins by declining and says little else, in English or a language of `languages/refusals.py`;
    refusals in other languages are not recognised.

    A long text with such a beginning, or one that continues with "but here is how ...", counts as an answer, and the
    judge decides.
    """
    start = text[:1000].replace("’", "'")
    declined = _declined_in_english(start[:300])
    if declined is None:
        start = _POINTS.sub("", composed(start))
        declined = declined_by(start[:300])
        if declined is None:
            return False
    limit = MAX_REFUSAL_LENGTH if declined.firmly else MAX_LOOSE_LENGTH
    if weighted_length(start[declined.end :]) + weighted_length(text[1000:]) > limit:
        return False
    return declined.goes_on.search(start, declined.end) is None


def _declined_in_english(start: str) -> Declined | None:
    if (found := _REFUSAL.match(start)) is not None:
        return Declined(found.end(), _GOES_ON, firmly=True)
    if (found := _LOOSE_REFUSAL.match(start)) is not None:
        return Declined(found.end(), _GOES_ON, firmly=False)
    return None


def is_repetitive(text: str) -> bool:
    """Whether a text loops, at its end or as a whole. Code and tables, which repeat short parts, pass."""
    return _loops_at_end(text) or repeated_share(text) > MAX_REPEATED_SHARE


def repeated_share(text: str) -> float:
    """Share of the text's word 12-grams that occurred earlier in it; 0 for a short text."""
    one_word, unspaced = _words()
    words = one_word.findall(_ENUMERATOR.sub("", composed(text).casefold()))
    letters = sum(1 for word in words if unspaced.match(word)) * 2 > len(words)
    num_words, ngram = (MIN_WORDS * LETTERS_PER_WORD, NGRAM * LETTERS_PER_WORD) if letters else (MIN_WORDS, NGRAM)
    if len(words) < num_words:
        return 0.0
    grams = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    return 1 - len(set(grams)) / len(grams)


@lru_cache(maxsize=1)
def _words() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A word, where a script has none a letter with its marks; and the beginning of such a letter that says little."""
    marks, few = marks_class(), letters_class(SOUTHEAST_ASIAN)
    alone = f"぀-ヿ㐀-鿿가-힣\U00020000-\U0003ffff{few}"
    return re.compile(rf"[{alone}][{marks}]*|(?:[^\W{alone}]|[{marks}])+"), re.compile(f"[{few}]")


def _loops_at_end(text: str) -> bool:
    """Prefix function of the reversed tail: its k-th value gives the smallest period of the last k + 1 characters."""
    tail = text.rstrip()[-TAIL_CHARS:][::-1]
    ascii = tail.isascii()
    lengths = range(1, len(tail) + 1) if ascii else list(accumulate(1 if c.isascii() else weight(c) for c in tail))
    if not tail or lengths[-1] < MIN_LOOP_LENGTH:
        return False
    borders = [0] * len(tail)
    for i in range(1, len(tail)):
        border = borders[i - 1]
        while border and tail[i] != tail[border]:
            border = borders[border - 1]
        border += tail[i] == tail[border]
        borders[i] = border
        num_chars, period = i + 1, i + 1 - border
        if lengths[i] >= MIN_LOOP_LENGTH and num_chars >= MIN_TAIL_REPEATS * period:
            plain = any(character.isalnum() for character in tail[:period])
            if plain or num_chars >= MIN_RULE_CHARS:
                return True
    return False
