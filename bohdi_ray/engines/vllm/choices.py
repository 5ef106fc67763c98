"""Log-probabilities of a constrained choice, computed from those of its first token. Pure; used by both kinds of
engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bohdi_ray.languages.labels import label_of

MAX_LABEL_TOKEN = 8  # characters of a token that may be a label with marks around it
UNLIKELY = -20.0  # log-probability given to labels that a server without log-probabilities did not choose


def normalised_choices(logprobs: Mapping[str, float]) -> dict[str, float]:
    """The same log-probabilities, shifted so that the probabilities add up to 1. Raises ValueError if all are 0."""
    largest = max(logprobs.values())
    if not math.isfinite(largest):
        raise ValueError("no choice has a probability above 0")
    total = largest + math.log(sum(math.exp(value - largest) for value in logprobs.values()))
    return {choice: value - total for choice, value in logprobs.items()}


def first_token_choices(tokens: Iterable[tuple[str, float]], choices: Sequence[str]) -> dict[str, float] | None:
    """Log-probability of each choice from `(text, logprob)` of the first token; None if the first token does not
    determine the choice.

    Several tokens may begin the same choice (a byte token beside the letter's own, a space before it, a lower-case or
    full-width letter, a bracket or asterisks around it): their probabilities add up. A token that begins two choices
    settles nothing. A choice that no token begins gets an upper bound: the smallest log-probability seen, for it was
    not among the most likely tokens, or what they leave of 1 if that is less.
    """
    sums = dict.fromkeys(choices, 0.0)
    smallest, left = 0.0, 1.0
    for text, logprob in tokens:
        if not math.isfinite(logprob):
            continue
        logprob = min(logprob, 0.0)  # a server may send anything
        smallest, left = min(smallest, logprob), left - math.exp(logprob)
        begun = _begun_by(text, choices)
        if len(begun) > 1:
            return None
        if begun:
            sums[begun[0]] += math.exp(logprob)
    if not any(sums.values()):
        return None
    smallest = min(smallest, math.log(max(left, math.exp(UNLIKELY))))
    return normalised_choices({c: math.log(p) if p > 0 else smallest for c, p in sums.items()})


def _begun_by(token: str, choices: Sequence[str]) -> list[str]:
    """The choices that a token may begin; a token that contains a whole label with marks around it begins only that
    one."""
    written = token.strip()
    begun = [choice for choice in choices if written and choice.startswith(written)]
    if not begun and len(written) <= MAX_LABEL_TOKEN and (label := label_of(token, choices)) is not None:
        return [label]
    return begun


def labelled(
    text: str, alternatives: list[tuple[str, float]], choices: Sequence[str]
) -> tuple[str, dict[str, float] | None]:
    """The label an answer chose, with log-probabilities normalised over the labels.

    `languages/labels.py` decides which label the text names. `alternatives` are those of the first token of the label,
    wherever it is in the text; if they are not known (empty), the label gets probability 1. Returns (text, None) if the
    text names no label: then its first token is ordinary prose, whatever letter it is.
    """
    label = label_of(text, choices)
    if label is None:
        return text, None
    if any(_begun_by(token, choices) == [label] for token, _ in alternatives):
        found = first_token_choices(alternatives, choices)
        if found is not None:
            return label, found
    # As far from the others as UNLIKELY says; the difference from exactly normalised is below 1e-7.
    rest = math.log1p(-(len(choices) - 1) * math.exp(UNLIKELY))
    return label, {choice: rest if choice == label else UNLIKELY for choice in choices}
