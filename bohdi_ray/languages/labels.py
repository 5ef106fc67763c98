"""Finds the label that a judge's reply names as its answer, and its position: one rule for texts and for
log-probabilities. Pure.

A label counts only where it is the answer:
1. as the only value of a JSON object that is a label ({"best": "B", "reason": "..."})
2. else behind words that announce one ("The best answer is B", "Answer: (b)", "答案是B", "\\boxed{B}"); the last such
   statement counts, for a judge may correct itself. Where such a word alone stands before a label it may also be a name
   of it ("回答B比回答A好", "回答B较差"): it counts if no other label has one and the sentence ends there
3. else as the subject of a verdict ("B is better than A", "Bが最も良い"), if all verdicts name the same label
4. else at the beginning or alone on the first or last line, set off from the rest ("B", "**B**", "(b)", "Option B",
   "B. It is right", "B\\nbecause"), if no other label is set off so: that would be a list of remarks on both
What a letter begins or ends as a word or part of one ("A close call", "A+", "N/A"), one of several ("A or B"), and what
is said of the worst or denied ("Worst answer: A", "我不选A", "Answer A, while concise, is wrong"), is no answer. Case
and width do not matter. Called by `engines/prompts.py`, `engines/vllm/choices.py` and `engines/openai/replies.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from bohdi_ray.languages.label_words import AND, BECAUSE, CAUSE, CLAUSE, GOES_ON, MARKS, NAMES, WORDS, Words
from bohdi_ray.languages.plain_replies import Plain, plain_reply

CLAUSE_LENGTH = 120  # characters before and behind a label in which it may be denied


@dataclass(frozen=True, slots=True)
class Found:
    """The label that a reply names, and its position in the reply."""

    label: str
    start: int


@dataclass(frozen=True, slots=True)
class Patterns:
    """The rules' patterns for one set of labels."""

    announced: re.Pattern[str]
    verdict: re.Pattern[str]
    leading: re.Pattern[str]
    with_name: re.Pattern[str]
    value: re.Pattern[str]  # a value of a JSON object that is a label and nothing else
    mention: re.Pattern[str]
    remark: re.Pattern[str]  # a label with a colon
    several: re.Pattern[str]  # two labels that are named together


# What may link a noun to a label: a colon or its like, whatever the language.
_COLON = r"[\"'*_]{0,4}\s*(?:[:：=→]|[=-]>)"
_DECORATION = r"[\s*_`~\"'“”‘’«»「」『』【】()\[\]{}<>$\\#]{0,40}"
_ON_LINE = _DECORATION.replace(r"\s", r" \t")
# Marks follow only what stands there: two runs of them side by side would take powers of their length.
_WRAPS = rf"(?:\\(?:text(?:bf|it|rm)?|mathrm|mathbf|mathit|boxed|rm|bf)(?:\s*\{{|\s){_DECORATION})?"
_PICTURE = "[\u2600-\u27bf\U0001f000-\U0001faff]"
_TURNED = re.compile(
    "|".join(f"(?<!\\w)(?:{words.turned})" if words.is_spaced else words.turned for words in WORDS.values()), re.I
)
_REASON = re.compile(rf"\W*{BECAUSE}", re.I)
_CLAUSE = re.compile(rf"[.!?;:,。！？；：，、،؛\n]|{CLAUSE}", re.I)
_ASKS, _ENDS = ("?", "？", "؟"), ".!?;。！？；؟।؛\n"
_SENTENCE = re.compile(f"[{_ENDS}]")
_VERB_LAST = re.compile(r"\s*(?:[^\x00-ɏ]|değil)")
_NOT_THE_OTHER = re.compile(
    r"[\W_]*(?<!\w)(?:(?:and|und|et|y|e)\s+)?(?:not|nicht|pas|no|non|não|не|nie|不是|而不是)\W*$", re.I
)
_NAME_ALONE = re.compile(rf"[^\w<]*{NAMES}{_DECORATION}", re.I)
# What makes a label, and one behind a name of it, the heading of a remark on it: {"A": "clear"}, "Answer A: clear".
_HEADS = {False: re.compile(r"[\"']\s*:"), True: re.compile(rf"{_ON_LINE}[:：]")}
_FENCE = re.compile(r"```\w*\s*|\s*```")


def _announcement(words: Words) -> str:
    """A pattern for a language's words before a label and what connects them to it."""
    edge, gap = (r"(?<![^\W_])", r"\s+") if words.is_spaced else ("", r"\s*")
    nature = f"(?:,?{gap}(?:{words.nature}),?)?"
    link = f"(?:{gap}(?:{words.links})(?:{_COLON})?|{_COLON})" + ("?" if words.is_bare else "")
    return f"{edge}(?:{words.nouns}){nature}{link}|{words.chooses}"


@lru_cache(maxsize=32)
def _patterns(labels: tuple[str, ...]) -> Patterns:
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    languages = WORDS.values()
    # Letters of scripts without spaces and Korean particles may touch a label; letters of its own kind may not, but for
    # the Turkish ending of "it is B". A point and a letter with a point make an abbreviation.
    before = r"(?<![0-9A-Za-zÀ-ɏ])(?<![/&+])(?<![A-Za-z]['’-])"
    alone = r"(?![0-9A-Za-zÀ-ɏͰ-ӿ])(?!['’](?![dt][iıuü]r\b)[A-Za-z])(?![+/&-])(?!\.\s?[A-Za-z]\.)"
    named = rf"{_DECORATION}{_WRAPS}(?:{NAMES}\s*[:：]?{_DECORATION})?{before}"
    label = rf"(?P<label>{one}){alone}"
    score = rf"(?!{_DECORATION}[:=]?\s*\d+(?:\.\d+)?\s*(?:/|%|of\b|out\b|points?\b|分|点|점))"
    # Behind an announced label its sentence ends, or goes on with a reason. A letter of any script does neither.
    stop = rf"$|<\s*[/|]|[.,;:!。，、；：！।؛،—–]|\s[—–-]\s|[^\S\n]*\n|{_PICTURE}"
    closes = "|".join(words.closes for words in languages)
    ends = rf"{score}(?=[)\]}}}}]|{closes}|{_DECORATION}(?:{stop}|\s+(?:{BECAUSE}|{GOES_ON})(?!\w)))"
    announce = "|".join((*map(_announcement, languages), *MARKS))
    wins = "|".join(words.wins for words in languages).replace("LABEL", f"(?:{one}){alone}")
    closing = r"[\s*_`\"'”’」』】)\]}$]*"
    # Set off: the text ends, or a mark and space, a new line or a reason follows.
    mark = rf"[.:,;!。、，：；．！）)](?:\s|$|[^\x00-\x7f])|{_PICTURE}"
    off = rf"(?={closing}(?:$|{mark}|\s[—–-]\s|\n|\s*{CAUSE}(?!\w)))"
    start = rf"(?:\A|(?<=\n)|(?<=[.!?。；;]\s))(?:(?:[-•–→]|=>|{_PICTURE})\s*)?"
    # Of several: another label follows on the same line behind a space, a mark or a word such as "or". A small "a"
    # behind a capital is an article.
    other = rf"[ \t]*(?:{NAMES}\s*)?{_ON_LINE}"
    by_word = rf"(?i:{_ON_LINE}(?:[,、，]\s*)?(?:{AND})(?:[ \t]|(?<=[^\x00-ɏ])){other})(?P<by_word>(?i:{one})){alone}"
    by_mark = rf"(?i:{_ON_LINE}(?:[,、，/&|>]\s*{other}|[ \t]{_ON_LINE}|(?<=[ \t]))|[—–:;|>/&,-])"
    by_mark = rf"{by_mark}(?P<by_mark>(?i:{one})){alone}(?={closing}(?:[\s.,;:!?。，]|$))"
    second = rf"(?:{by_word}|{by_mark})"
    several = rf"(?i:{before}(?P<first>{one})(?![0-9A-Za-zÀ-ɏ]))(?={second})"
    return Patterns(
        re.compile(rf"(?:{announce}){named}{label}{ends}", re.I),
        re.compile(rf"{before}{label}{_DECORATION}(?:{wins})", re.I),
        re.compile(rf"{start}{named}{label}{score}{off}", re.I),
        re.compile(rf"{NAMES}{_DECORATION}{label}", re.I),
        re.compile(rf"{named}{label}{_DECORATION}\.?", re.I),
        re.compile(rf"{before}{label}", re.I),
        re.compile(rf"{before}{label}{_DECORATION}[:：=]", re.I),
        re.compile(several),
    )


def label_of(text: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names as its answer, or None. `labels` are short and differ in more than case."""
    found = find_label(text, labels)
    return None if found is None else found.label


def find_label(text: str, labels: Sequence[str]) -> Found | None:
    """The label that a reply names as its answer, and its place in `text`; or None."""
    plain = plain_reply(text)
    named = {label.upper(): label for label in labels}  # of an "i" without its dot, too, as patterns read it
    if plain.text.upper() in named:
        return Found(named[plain.text.upper()], plain.origins[0])
    span = _answer(plain, _patterns(tuple(labels)))
    if span is None:
        return None
    return Found(named[plain.text[slice(*span)].upper()], plain.origins[span[0]])


def _answer(plain: Plain, patterns: Patterns) -> tuple[int, int] | None:
    """Start and end of the label that is the answer."""
    text = plain.text
    values = _json_values(text, patterns)
    if len(values) == 1:
        return values[0]
    several = _of_several(text, patterns)
    announced = [match for match in _announced(text, patterns) if match.start("label") not in several]
    if announced:
        return announced[-1].span("label")
    found = [
        match
        for match in patterns.verdict.finditer(text)
        if match.start("label") not in several
        and not _is_turned_round(text, match, patterns)
        and not _is_taken_back(text, match, patterns)
    ]
    if not found:
        found = _set_off(text, patterns, several)
    return found[0].span("label") if len({match["label"].casefold() for match in found}) == 1 else None


def _json_values(text: str, patterns: Patterns) -> list[tuple[int, int]]:
    """Positions of labels that are values in a JSON reply, except those under keys such as "worst"."""
    body = _FENCE.sub("", text)
    try:
        value = json.loads(body) if body.startswith("{") else None
    except (ValueError, RecursionError):
        return []
    spans = []
    for name, field in value.items() if isinstance(value, dict) else ():
        if isinstance(field, str) and patterns.value.fullmatch(field) and not _TURNED.search(_words_of(name)):
            written = re.search(rf'"{re.escape(name)}"\s*:\s*', text)
            match = patterns.mention.search(text, written.end()) if written else None
            spans += [match.span("label")] if match else []
    return spans


def _words_of(name: str) -> str:
    """A field's name as words: "worst_answer", "worstAnswer"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)


def _of_several(text: str, patterns: Patterns) -> set[int]:
    """Positions of labels that are named together with another label."""
    starts = set()
    for match in patterns.several.finditer(text):
        second = "by_mark" if match["by_word"] is None else "by_word"
        if match["first"].isupper() == match[second].isupper():
            starts |= {match.start("first"), match.start(second)}
    return starts


def _announced(text: str, patterns: Patterns) -> list[re.Match[str]]:
    """The announced labels, in order; labels after an ambiguous word only if no other reading is possible."""
    matches = list(patterns.announced.finditer(text))
    clear = [match for match in matches if not _NAME_ALONE.fullmatch(text, match.start(), match.start("label"))]
    if not clear and len({match["label"].casefold() for match in patterns.with_name.finditer(text)}) == 1:
        clear = [match for match in matches if not _is_remarked(text, match, patterns, is_named=True)]
    return [match for match in clear if not _is_turned_round(text, match, patterns)]


def _set_off(text: str, patterns: Patterns, several: set[int]) -> list[re.Match[str]]:
    """Labels that are set off from the rest: at the start of the text, or alone on the last line."""
    first, last = patterns.leading.match(text), patterns.leading.match(text, text.rfind("\n") + 1)
    is_alone = any(match is not None and _is_line(text, match) for match in (first, last))
    if first is None and not is_alone:
        return []
    matches = [match for match in patterns.leading.finditer(text) if match.start("label") not in several]
    if is_alone:  # whatever is remarked on the labels in other lines
        return [match for match in matches if _is_line(text, match)]
    if len({match["label"].casefold() for match in (*matches, *patterns.remark.finditer(text))}) > 1:
        return []
    named = {match.start("label") for match in patterns.with_name.finditer(text)}
    return [match for match in matches if not _is_remarked(text, match, patterns, match.start("label") in named)]


def _is_line(text: str, match: re.Match[str]) -> bool:
    """Whether a line is a label and nothing else."""
    line_start, line_end = text.rfind("\n", 0, match.start("label")) + 1, text.find("\n", match.end("label"))
    rest = text[match.end("label") : None if line_end < 0 else line_end]
    return match.start() <= line_start and not rest.strip(" \t*_`'\"”’」』】)]}$.!。！")


def _is_turned_round(text: str, match: re.Match[str], patterns: Patterns) -> bool:
    """Whether a word in its clause reverses a statement: it is about the worst or another answer, is denied, or is
    hypothetical."""
    start = match.start("label")
    # The announcement's own marks belong to the clause: "Worst answer: A".
    first = _end_of_last(_CLAUSE, text, max(0, match.start() - CLAUSE_LENGTH), match.start())
    first = _end_of_last(patterns.mention, text, first, start)
    return _TURNED.search(text, first, start) is not None


def _end_of_last(pattern: re.Pattern[str], text: str, start: int, end: int) -> int:
    """Where the last match ends, else `start`."""
    last = start
    for match in pattern.finditer(text, start, end):
        last = match.end()
    return last


def _is_taken_back(text: str, match: re.Match[str], patterns: Patterns) -> bool:
    """Whether a verdict is a question, or is denied after it, as where verbs come last: "Aが良いとは言えない"."""
    rest, mark = _rest(text, match.end(), patterns)
    clause = _CLAUSE.split(rest, maxsplit=1)[0]
    is_denied = _VERB_LAST.match(clause) is not None and _TURNED.search(clause) is not None
    return is_denied or mark in _ASKS


def _is_remarked(text: str, match: re.Match[str], patterns: Patterns, is_named: bool) -> bool:
    """Whether a label begins a remark about it, or the sentence goes on to say what is wrong with it."""
    rest, mark = _rest(text, match.end("label"), patterns)
    if mark not in _ENDS:  # another label: "B, not A"
        rest = _NOT_THE_OTHER.sub("", rest)
    heads = _HEADS[is_named].match(text, match.end("label")) is not None
    return heads or (not _REASON.match(rest) and _TURNED.search(rest) is not None)


def _rest(text: str, start: int, patterns: Patterns) -> tuple[str, str]:
    """The text of a sentence from `start` to the next label or the end, and what comes there."""
    rest = text[start : start + CLAUSE_LENGTH]
    found = [match for pattern in (_SENTENCE, patterns.mention) if (match := pattern.search(rest))]
    end = min(found, key=lambda match: match.start(), default=None)
    return (rest, "") if end is None else (rest[: end.start()], end[0])
