"""An answer's score is its mean probability under the sources that did not write it.

Each probability is the geometric mean per byte. Unlike a rank it tells a source that knows from one that merely
prefers. The target has no say. Two answers in the same words stay two: each is left to the sources that did not write
that one, so they need not tie.
"""

from __future__ import annotations

import math

import numpy as np

from bohdi_ray.harvest.judges.judging import Judgement, Judging


async def judge(judging: Judging) -> Judgement:
    ballots = await judging.likelihood_ballots(judging.models.sources)
    return judging.judgement_of_all(mean_probabilities([ballot.logprobs for ballot in ballots]), ballots)


def mean_probabilities(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean probability of every model's answer over the rows (log-probabilities) that hold it."""
    held: dict[str, list[float]] = {}
    for row in rows:
        for model, logprob in row.items():
            held.setdefault(model, []).append(math.exp(min(logprob, 0.0)))
    return {model: float(np.mean(values)) for model, values in held.items()}
