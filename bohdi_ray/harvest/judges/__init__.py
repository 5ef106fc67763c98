"""Choosing the best of several answers (method, section 4, point 5 and section 9). Called by `harvest.py` only.

One module for each kind of judge in the configuration, whose `judge` decides; `judging.py` is what they share. A judge
abstains if the answers do not fit its context window; if all judges abstain, the ticket fails. Answers are never
shortened for a judge, because it would then judge another text than the one in the row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bohdi_ray.config import JUDGES
from bohdi_ray.config.kinds.by_kind import modules_of
from bohdi_ray.engines.models import Models
from bohdi_ray.harvest.judges.judging import Judgement, Judging
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.questions.source import Question
from bohdi_ray.records import Candidate, Ticket, Verdict

JUDGE_OF: dict[str, Callable[[Judging], Awaitable[Judgement]]] = modules_of(JUDGES, __name__, "judge")


async def judge_answers(
    ticket: Ticket, asked: Question, eligible: tuple[Candidate, ...], models: Models, plan: HarvestPlan
) -> Judgement:
    """The verdict on the eligible answers (at least one). Raises NobodyJudged."""
    if len(eligible) == 1:
        only = eligible[0].model
        return Judgement(Verdict("only", None, {only: 1.0}, (), (), only, None))
    judging = Judging(ticket, asked, {c.model: c.text for c in eligible}, models, plan)
    return await JUDGE_OF[plan.config.judge.kind](judging)
