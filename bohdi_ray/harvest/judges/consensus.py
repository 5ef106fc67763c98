"""An answer's score is its mean probability under the sources that did not write it.

Each probability is the geometric mean per byte. Unlike a rank, it distinguishes a source that knows the answer from one
that merely prefers it. The target does not vote. Two answers with the same text are kept apart: each is scored by the
sources that did not write it, so they need not tie.
"""

from __future__ import annotations

import math

import numpy as np

from bohdi_ray.harvest.judges.judging import Judgement, Judging


async def judge(judging: Judging) -> Judgement:
    ballots = await judging.likelihood_ballots(judging.models.sources)
    return judging.judgement_of_all(mean_probabilities([ballot.logprobs for ballot in ballots]), ballots)


def mean_probabilities(rows: list[dict[str, float]]) -> dict[str, float]:
    """For each model's answer, the mean probability over all score rows (one per judge, log-probabilities) that contain
    it."""
    held: dict[str, list[float]] = {}
    for row in rows:
        for model, logprob in row.items():
            held.setdefault(model, []).append(math.exp(min(logprob, 0.0)))
    return {model: float(np.mean(values)) for model, values in held.items()}
