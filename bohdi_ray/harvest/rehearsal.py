"""One question for rehearsal: a source asks in a domain, and the target as it was before the fusion answers.

An answer with high probability shows what the target knew, or believed, before; training on it again prevents
forgetting, without any data. The answer is decoded greedily, and the same engine gives its probability. Called by
rehearsal tasks.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bohdi_ray.engines.chat.reasoning import reasoning_problem, without_reasoning
from bohdi_ray.engines.models import Models, error_name
from bohdi_ray.engines.prompts import clean_text
from bohdi_ray.engines.quality import answer_problem
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.questions import question_for
from bohdi_ray.records import (
    GenerationRequest,
    RehearsalRow,
    ScoreRequest,
    Ticket,
)


async def rehearse_one(ticket: Ticket, models: Models, plan: HarvestPlan) -> RehearsalRow:
    """The question, the answer and its probability; `rejected` says why it is not used as a row. Raises
    SourceLeftOut."""
    asked = await question_for(ticket, models, plan)
    row = RehearsalRow(ticket.ticket_id, ticket.path, asked.leader, asked.text, "", 0.0, 0, asked.failure)
    if asked.failure is None and asked.is_heldout(plan.config.harvest.heldout_fraction):
        row = replace(row, rejected="heldout")
    if row.rejected is None:
        try:
            row = await _answered(row, models, plan, plan.config.training.at(ticket.round).rehearsal.min_probability)
        except RequestQuarantined:
            row = replace(row, rejected="request_quarantined")
    return replace(row, num_tokens=row.num_tokens + asked.num_tokens)


async def _answered(row: RehearsalRow, models: Models, plan: HarvestPlan, min_probability: float) -> RehearsalRow:
    gates = plan.config.harvest
    prompt, target = plan.templates.render_answer(row.question), models.target
    greedy = replace(plan.spec("answer", target, 0), temperature=0.0, top_p=1.0)
    request = GenerationRequest(f"{row.replay_id}/answer", "answer", prompt, greedy)
    done = without_reasoning(await models.ask(target, request))
    row, text = replace(row, num_tokens=done.num_tokens), clean_text(done.text)
    problem: str | None = error_name(done.error) if done.error else reasoning_problem(done)
    problem = problem or answer_problem(text, done.finish_reason, gates.min_answer_chars, gates.length_unit)
    if problem is not None:
        return replace(row, rejected=problem)
    scored = await models.ask(target, ScoreRequest(f"{row.replay_id}/score", "answer", prompt, text))
    if scored.error is not None or scored.logprob is None or not math.isfinite(scored.logprob):
        return replace(row, answer=text, rejected="not_scored")
    sure = math.exp(min(0.0, scored.logprob / max(1, done.num_tokens)))
    return replace(row, answer=text, probability=sure, rejected=None if sure >= min_probability else "unsure")
