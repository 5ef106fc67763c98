"""Sources and target each rank the answers they did not write by log-probability per byte.

An answer's score is minus its mean rank. Ranks within a tie are averaged. Every answer is left out of the ranking of
its own author only, so the ranks compare.
"""

from __future__ import annotations

import numpy as np

from bohdi_ray.harvest.judges.judging import Judgement, Judging


async def judge(judging: Judging) -> Judgement:
    ballots = await judging.likelihood_ballots((*judging.models.sources, judging.models.target))
    ranks = mean_ranks([ballot.logprobs for ballot in ballots])
    return judging.judgement_of_all({model: -rank for model, rank in ranks.items()}, ballots)


def mean_ranks(rows: list[dict[str, float]]) -> dict[str, float]:
    """For each model, the mean rank over the score rows that contain it; rank 1 is the highest value, ties share their
    mean rank."""
    ranks: dict[str, list[float]] = {}
    for row in rows:
        for model, value in row.items():
            above = sum(other > value for other in row.values())
            same = sum(other == value for other in row.values())
            ranks.setdefault(model, []).append(above + (same + 1) / 2)
    return {model: float(np.mean(values)) for model, values in ranks.items()}
