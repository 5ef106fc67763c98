"""Log-probabilities of a constrained choice, from those of the first token. Pure; used by both kinds of engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def normalised_choices(logprobs: Mapping[str, float]) -> dict[str, float]:
    """The same log-probabilities, shifted so that the probabilities add up to 1. Raises ValueError if all are 0."""
    largest = max(logprobs.values())
    if not math.isfinite(largest):
        raise ValueError("no choice has a probability above 0")
    total = largest + math.log(sum(math.exp(value - largest) for value in logprobs.values()))
    return {choice: value - total for choice, value in logprobs.items()}


def first_token_choices(tokens: Iterable[tuple[str, float]], choices: Sequence[str]) -> dict[str, float] | None:
    """Log-probability of each choice from `(text, logprob)` of the first token; None if that does not settle it.

    Several tokens may begin the same choice (a byte token beside the letter's own, a space before it): their
    probabilities add up. A token that begins two choices settles nothing. A choice that no token begins gets the
    smallest log-probability seen, an upper bound: it was not among the most likely tokens.
    """
    sums = dict.fromkeys(choices, 0.0)
    smallest = 0.0
    for text, logprob in tokens:
        if not math.isfinite(logprob):
            continue
        smallest = min(smallest, logprob)
        written = text.strip()
        begun = [choice for choice in choices if written and choice.startswith(written)]
        if len(begun) > 1:
            return None
        if begun:
            sums[begun[0]] += math.exp(logprob)
    if not any(sums.values()):
        return None
    return normalised_choices({c: math.log(p) if p > 0 else smallest for c, p in sums.items()})
