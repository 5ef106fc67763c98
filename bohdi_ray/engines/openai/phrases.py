"""The phrases with which servers say what is wrong with a field, and which field they mean. English; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from bohdi_ray.engines.openai.bodies import Complaint

# What servers say of a field that they do not take, as against one whose value is wrong.
NOT_TAKEN = re.compile(
    r"unsupported(?!\w)|unrecogni[sz]ed|deprecated|disallowed|forbidden|obsolete|no longer"
    r"|(not|n't|never|cannot|no) (be |currently |yet |get |a |an |been )?"
    r"(support\w*|permitted|allow\w*|recogni[sz]\w*|accept\w*|available|enabled|implemented|specified|used|taken|take"
    r"|expected|valid (param|arg|field|prop|option)\w*|known|defined|compatible|applicable)"
    r"|(must|should|may|can) not be (set|given|provided|present|included|passed|sent|overridden)"
    r"(?! (to|as|above|below))"
    r"|inapplicable|incompatible|(?<!service )(?<!temporarily )unavailable|\bdenied\b"
    r"|(unknown|unexpected|extra|additional)[ _](keyword |request |body |json |input )?"
    r"(name|field|param|arg|key|propert|input|forbidden|option)\w*|cannot find field|invalid (field|key)\b"
    r"|was unexpected|is unexpected|to be removed|remove (it|this|the)|\bdisabled\b"
    r"|(not have|n't have|no|lack\w*|without) (the )?(permission|access)|permission denied|not (authori[sz]ed|entitled)"
    r"|(invalid|illegal) (request )?(param\w*|argument|field|key|property|option)s?:?"
    r" ['\"`]?[\w.]+['\"`]?(?=[.!]?\s*($|;\n))",
    re.I,
)
# That it may not be there, whatever else would be taken.
UNSET = re.compile(
    r"(must|should|has to|needs to|can only) be (left )?(unset|omitted|null|none|absent|empty|removed|left out)\b"
    r"|\bor (be )?(left )?(unset|omitted|left out)\b",
    re.I,
)
# One value, and not the first of several or an end of a range.
_ONE = (
    r"[`'\"(\[]*(?:[01](?:\.0+)?|false)(?![\w.]*\d)(?!\w)[`'\")\]]*"
    r"(?! *(?:,? *(?:and|or)? *[`'\"(\[]*\d|to\b|-|–|%|[<>≤≥=]|of\b|up\b|at\b|through\b|digit|decimal|token"
    r"|(?:and|or|,) *(?:above|below|over|more|less|high|low|great|small|large|true|positive|negative|[\d`'\"])))"
)
_BETWEEN = (
    r"(?:[ :=`'\"]|(?:be|is|are|set|equal|to|exactly|the|values?|of|for|a|accepts?|temperature|top_p|logprobs)\b){0,12}"
)
# What they say of a field that has one value.
FIXED = re.compile(
    r"only (the )?(default|\(?[01](\.\d+)?\)?(?![\d.,] *(and|to|-|–)))|may only be|fixed (at|to)|locked to|immutable"
    r"|only (supports?|accepts?|allows?) (the |a )?(default|fixed|temperature|value|top_p)"
    r"|not (configurable|adjustable)|must be (set to |equal to |exactly )?the default"
    r"|(?:(?:can|may) only|should|must|ha(?:s|ve) to|needs? to|requires?|required|expect(?:s|ed)"
    rf"|(?:allowed|valid|supported|permitted|accepted|possible) values?|\bonly)\b{_BETWEEN}{_ONE}"
    r"|can(not|'t) be (changed|modified|set|customi[sz]ed|adjusted)",
    re.I,
)
# What they say of a value outside of its limits.
LIMITED = re.compile(
    r"(must|should|has to|needs to|can|may) (not )?be (between|in\b|within|less|lower|smaller|greater|larger|higher"
    r"|more|at (most|least)|>|<|≤|≥|a positive|positive|strictly|no (more|greater|larger|less)|up to)"
    r"|[<>]=|[<>] ?\d[\d.]*+(?![\w>])|≤|≥|out of range|exceeds?\b|max(imum)?:? \d|up to \d"
    r"|(above|below|exceed\w*|than|over|under)( the| its)? (max|min|allowed|limit)|valid range|supported range"
    r"|(more|greater|larger|higher|less|lower|smaller|fewer) than( or equal to)? \d|at (most|least) \d"
    r"|too (large|high|big|small|low)"
    r"|expected a value|max(imum)?( allowed)?( value)?( of|:| is| for)|strictly positive|allowed range"
    r"|limit(ed)? (to|of|is)|max(imum)?( \w+){0,6} (is|of|to|:) [`'\"]?\d|(above|below|over|under|beyond) \d"
    r"|not (less|lower|smaller|greater|larger|more) (than )?or equal|range\b[^.;]{0,40}[\[(]\d"
    r"|(must|should|has to|needs to) be [\[(]\d",
    re.I,
)
EXACT = re.compile(r"extra_forbidden|(unsupported|unknown|unrecognized|unexpected)_(param|arg|field|key|name)\w*", re.I)
ONE_VALUE_CODES = re.compile(r"unsupported_value", re.I)
LIMIT_CODES = re.compile(r"less_than|greater_than|above_max|below_min|value_error\.number", re.I)
UNKNOWN = re.compile(
    r"unknown|unrecogni[sz]ed|unexpected|\bextra[ _]|cannot find field|additional propert", re.I
)  # a field by its name, whatever it holds
# The same with the names themselves, as against names of fields that are known.
UNKNOWN_NAMES = re.compile(
    r"(?:unknown|unrecogni[sz]ed|unexpected|extraneous) (?:keyword |request |body |json |input )?"
    r"(?:name|field|param\w*|arg\w*|key|propert\w+)s?(?:\(s\))?(?: supplied)?:? *[`'\"\[]*"
    r"(\w+(?:[`'\"]?(?:,| and) [`'\"]?\w+)*)",
    re.I,
)
# What is said of a prompt and its window, rather than of an answer's length.
WINDOW = re.compile(
    r"context[ _-]?(length|window|size)[^.;]{0,40}\d|max_model_len|sequence length"
    r"|\b(prompt|input|message)s?\b[`'\"]? ?(tokens?|length|is|are|has|plus|\+|exceeds?)",
    re.I,
)
MAX_GAP = 60  # characters between a field's name and what is said of it
NUMBER = re.compile(r"(?<![\w.\[-])\d{1,3}(?:,\d{3})+(?![\d.\]])|(?<![\w.-])\d+(?:\.\d+)?(?!\w)")
STATUS = re.compile(r"<\d{3}>|\b(?:error|status|http)(?: code)?:? ?\d{3}\b", re.I)  # a number, but no value
EXCLUSIVE = re.compile(r" *\)? *\(?exclusive", re.I)
LESS = re.compile(r"(?<!not )(?<!no )((less|lower|smaller|fewer) than|(?<!<)<) *[`'\"(]?$", re.I)
WANTS_NUMBER = re.compile(
    r"\bu?int(eger)?(8|16|32|64)?\b|\b[iu](8|16|32|64|size)\b|\bnumber\b|int_type|int_parsing|\bnumeric\b", re.I
)


def named(complaint: Complaint, names: Sequence[str], said: re.Pattern[str], num_sentences: int = 1) -> list[str]:
    """The fields of `names` that the complaint refers to. If the server names a field explicitly, that one; otherwise,
    for each match of `said` in the text, the nearest field name within `num_sentences` sentences."""
    if by_path := [name for name in names if name in complaint.path]:
        return by_path
    if complaint.path and complaint.path[0] in ("messages", "model"):
        return []
    found: dict[str, None] = {}
    places = [(m.start(), m.end(), name) for name in names for m in _mention(name).finditer(complaint.text)]
    for phrase in said.finditer(complaint.text):
        gaps = [(_gap(complaint.text, phrase.span(), (start, end), num_sentences), name) for start, end, name in places]
        near = [(gap, name) for gap, name in gaps if gap is not None]
        if near:
            found |= {name: None for name in (min(near)[1], *_listed(complaint.text, phrase.end(), places))}
    return list(found)


def _gap(text: str, phrase: tuple[int, int], mention: tuple[int, int], num_sentences: int) -> int | None:
    """Number of characters between a phrase and a field's name; None if they do not belong together."""
    start, end = mention
    if start < phrase[1] and end > phrase[0]:
        return 0
    between = text[phrase[1] : start] if start >= phrase[1] else text[end : phrase[0]]
    too_far = len(between) > MAX_GAP * num_sentences
    return None if too_far or len(re.findall(r"[.;!?][\s'\"]", between)) >= num_sentences else len(between)


def _listed(text: str, at: int, places: list[tuple[int, int, str]]) -> Iterator[str]:
    """Names in a list that follows a phrase: "does not support parameters: ['logprobs', 'seed']"."""
    match = re.match(r"[^\[\]{}.;]{0,40}\[([^\]]{1,400})\]", text[at:])
    if match:
        yield from (name for start, _, name in places if at + match.start(1) <= start < at + match.end(1))


@lru_cache(maxsize=64)
def _mention(name: str) -> re.Pattern[str]:
    """A pattern for a field name in a text: `top_p`, also top-p, "top p" and topP; "logprobs" also written out."""
    written = re.escape(name).replace("_", "[ _-]?").replace("logprobs", "log[ _-]?prob(?:s|abilit(?:y|ies))")
    return re.compile(rf"(?<![\w-]){written}(?![\w-])", re.I)


def mentions(text: str, name: str) -> bool:
    return _mention(name).search(text) is not None


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.;!?])\s+", text)


def numbers_in(text: str, inclusive: bool = False) -> list[float]:
    """All numbers in a text. With `inclusive`, an exclusive upper bound ("less than 5") is returned as the largest
    allowed integer (4)."""
    text = STATUS.sub(" ", text)
    found = []
    for match in NUMBER.finditer(text):
        number = float(match[0].replace(",", ""))
        below = EXCLUSIVE.match(text, match.end()) or LESS.search(text, 0, match.start())
        found.append(number - 1 if inclusive and below else number)
    return found
