"""One ticket, one harvest (method, section 4): a leader asks, all models answer, the best answer becomes a sample.

Called by harvest tasks. Holds no state; every draw and every request's seed comes from the run's seed and the ticket. A
ticket fails only because of its content, which includes a request that kills engines; other engine failures are raised
by `Models`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from bohdi_ray.engines.chat.reasoning import reasoning_problem, without_reasoning
from bohdi_ray.engines.models import Models, all_of, error_name
from bohdi_ray.engines.prompts import clean_text
from bohdi_ray.engines.quality import answer_problem
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.judges import judge_answers
from bohdi_ray.harvest.judges.judging import JudgeFailure, NobodyJudged
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.source_notes import NotedModels, SourceNotes
from bohdi_ray.questions import question_for
from bohdi_ray.questions.source import Question, QuestionFailure
from bohdi_ray.records import (
    Candidate,
    EngineReply,
    Outcome,
    Role,
    Sample,
    Ticket,
    Verdict,
    tokens_name,
)

# Why a ticket gives no sample. The tree adds its own: a question the leaf already has.
Failure = QuestionFailure | Literal["no_eligible_answer"] | JudgeFailure
FAILURES: tuple[str, ...] = tuple(name for part in get_args(Failure) for name in get_args(part))


async def harvest_one(ticket: Ticket, models: Models, plan: HarvestPlan) -> tuple[Outcome, Sample | None]:
    """Harvest one ticket: an Outcome, and the Sample unless it failed. Raises SourceLeftOut."""
    started_at = time.time()
    notes = SourceNotes()
    models = NotedModels(models, notes)
    asked = await question_for(ticket, models, plan)
    for reason in asked.refused:
        notes.lose(asked.leader, "question", reason)
    work = TicketWork(ticket, models, plan, notes, asked)
    if asked.failure is not None:
        return work.outcome(failure=asked.failure, quarantined=asked.quarantined), None
    try:
        candidates = await work.answers()
        eligible = tuple(candidate for candidate in candidates if candidate.rejected is None)
        if not eligible:
            raise TicketFailed("no_eligible_answer")
        verdict = await work.judged(eligible)
    except TicketFailed as failed:
        return work.outcome(failure=failed.reason), None
    except RequestQuarantined as quarantined:
        # Whatever its role: an answer that is missing for this reason must not decide who wins.
        return work.outcome(failure="request_quarantined", quarantined=quarantined.part), None
    reward = 0 if verdict.winner == models.target else 1
    heldout = asked.is_heldout(plan.config.harvest.heldout_fraction)
    sample = Sample(
        sample_id=ticket.ticket_id,
        round=ticket.round,
        step=ticket.step,
        path=ticket.path,
        style=asked.style,
        leader=asked.leader,
        question=asked.text,
        question_hash=asked.hash,
        candidates=candidates,
        verdict=verdict,
        reward=reward,
        heldout=heldout,
        template_hash=plan.templates.template_hash,
        sampling=plan.sampling_record((*models.sources, models.target)),
        seed=plan.config.seed,
        started_at=started_at,
        finished_at=time.time(),
        question_reasoning=asked.reasoning,
    )
    outcome = work.outcome(reward=reward, question_hash=asked.hash, heldout=heldout, winner=verdict.winner)
    return outcome, sample


class TicketFailed(Exception):
    """This ticket's answers cannot become a sample; never leaves this file."""

    def __init__(self, reason: Failure):
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True)
class TicketWork:
    """The requests of one ticket and their counts."""

    ticket: Ticket
    models: Models
    plan: HarvestPlan
    notes: SourceNotes
    asked: Question
    counts: Counter[str] = field(init=False)
    tokens: Counter[tuple[Role, str]] = field(init=False)  # decoded, by role and model

    def __post_init__(self) -> None:
        self.counts = Counter(self.asked.counts)
        self.tokens = Counter({("question", self.asked.leader): self.asked.num_tokens})

    async def answers(self) -> tuple[Candidate, ...]:
        """The answers of all sources, then the target's, eligible or not."""
        prompt = self.plan.templates.render_answer(self.asked.text)
        asked = (*self.models.sources, self.models.target)
        completions = await all_of([self._answer(model, prompt) for model in asked])
        return tuple(self._candidate(done) for done in completions)

    async def judged(self, eligible: tuple[Candidate, ...]) -> Verdict:
        """The judge's verdict; its token cost is counted."""
        try:
            judgement = await judge_answers(self.ticket, self.asked, eligible, self.models, self.plan)
        except NobodyJudged as nobody:
            self.counts.update(nobody.counts)
            self._spent_on_judging(nobody.tokens)
            raise TicketFailed(nobody.reason) from None
        self.counts.update(judgement.counts)
        self._spent_on_judging(judgement.tokens)
        return judgement.verdict

    def outcome(self, **fields: object) -> Outcome:
        num_tokens: Counter[str] = Counter()
        for (role, _), n in self.tokens.items():
            num_tokens[role] += n
        return Outcome(
            self.ticket.ticket_id,
            leader=self.asked.leader,
            num_tokens={role: n for role, n in num_tokens.items() if n},
            model_tokens={tokens_name(role, model): n for (role, model), n in self.tokens.items() if n},
            counts={name: n for name, n in self.counts.items() if n},
            sources=self.notes.tallies(),
            **fields,  # type: ignore[arg-type]
        )

    async def _answer(self, model: str, prompt: str) -> EngineReply:
        self.counts["answer_requests"] += 1
        done = await self.models.ask(model, self.plan.request(self.ticket, "answer", model, prompt))
        self.tokens["answer", model] += done.num_tokens
        return without_reasoning(done)

    def _spent_on_judging(self, tokens: Mapping[str, int]) -> None:
        for model, number in tokens.items():
            self.tokens["judge", model] += number

    def _candidate(self, done: EngineReply) -> Candidate:
        text, config = clean_text(done.text), self.plan.config.harvest
        if done.error is not None:
            rejected: str | None = error_name(done.error)
        else:
            rejected = reasoning_problem(done) or answer_problem(
                text, done.finish_reason, config.min_answer_chars, config.length_unit
            )
        if rejected is not None:
            self.counts[f"answer_rejected:{rejected}"] += 1
            if done.error is None and done.model != self.models.target:
                self.notes.lose(done.model, "answer", rejected)
        return Candidate(
            model=done.model,
            weights_version=done.weights_version,
            text=text,
            num_tokens=done.num_tokens,
            finish_reason=done.finish_reason or "error",
            rejected=rejected,
            reasoning=clean_text(done.reasoning),
        )
