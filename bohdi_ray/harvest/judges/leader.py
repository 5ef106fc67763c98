"""The question's author names the best answer: the paper's judge.

Answers are shown in a random order; with `orders` n the label probabilities are averaged over n rotations of it (n =
number of answers puts every answer into every slot once).
"""

from __future__ import annotations

import math

import numpy as np

from bohdi_ray.harvest.judges.judging import Judgement, Judging


async def judge(judging: Judging) -> Judgement:
    ballots = await judging.label_ballots(judging.asked.leader, tuple(judging.texts), "order")
    if not ballots:
        raise judging.nobody()
    scores = {m: float(np.mean([math.exp(ballot.logprobs[m]) for ballot in ballots])) for m in judging.texts}
    return judging.judgement(judging.asked.leader, scores, ballots)
