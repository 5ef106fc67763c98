"""Every source judges all answers but its own.

An answer's score is the mean, over the judges that saw it, of the log-odds of its label, less the log-odds it would
have by chance among as many answers. Limits: the target's answer is seen by one judge more than a source's; judges see
different sets, so their log-odds compare only roughly (probabilities are clipped to [0.001, 0.999], so that one certain
judge cannot outvote the others); answers that no judge could compare (two sources' answers, no third source) score 0,
as good as chance, and tie.
"""

from __future__ import annotations

import math

import numpy as np

from bohdi_ray.engines.models import all_of
from bohdi_ray.harvest.judges.judging import Ballot, Judgement, Judging

CLIP = 1e-3


async def judge(judging: Judging) -> Judgement:
    texts = judging.texts
    judges = [source for source in judging.models.sources if len(texts.keys() - {source}) > 1]
    seen = await all_of(
        [judging.label_ballots(j, tuple(model for model in texts if model != j), f"order/{j}") for j in judges]
    )
    ballots = [ballot for some in seen for ballot in some]
    if judges and not ballots:
        raise judging.nobody()
    return judging.judgement(None, odds_scores(ballots, tuple(texts)), ballots)


def odds_scores(ballots: list[Ballot], models: tuple[str, ...]) -> dict[str, float]:
    """Per model the mean over its judges of the clipped log-odds of its label, less those of chance."""
    by_judge: dict[str, dict[str, list[float]]] = {}
    for ballot in ballots:
        for model, logprob in ballot.logprobs.items():
            by_judge.setdefault(ballot.judge, {}).setdefault(model, []).append(math.exp(logprob))
    odds: dict[str, list[float]] = {model: [] for model in models}
    for probabilities in by_judge.values():
        for model, values in probabilities.items():
            p = min(max(float(np.mean(values)), CLIP), 1 - CLIP)
            odds[model].append(math.log(p / (1 - p)) + math.log(len(probabilities) - 1))
    return {model: float(np.mean(values)) if values else 0.0 for model, values in odds.items()}
