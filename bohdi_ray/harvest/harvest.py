"""One ticket, one harvest (method, section 4): a leader asks, everybody answers, the best answer becomes a sample.

Called by harvest tasks. Holds no state; every draw and every request's seed comes from the run's seed and the ticket.
Only content fails a ticket, a request that engines die of included; what engines do wrong otherwise is raised by
`Models`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from bohdi_ray.engines.chat.reasoning import reasoning_problem, without_reasoning
from bohdi_ray.engines.prompts import clean_text, parse_question
from bohdi_ray.engines.quality import answer_problem, question_problem
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.judges import judge_answers
from bohdi_ray.harvest.judges.judging import JudgeFailure, NobodyJudged
from bohdi_ray.harvest.models import Models, all_of, error_name
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.source_notes import NotedModels, SourceNotes
from bohdi_ray.randomness import derived_seed, generator
from bohdi_ray.records import (
    Candidate,
    Completion,
    GenerationRequest,
    Outcome,
    Role,
    Sample,
    Ticket,
    Verdict,
    is_heldout,
    question_hash,
    tokens_name,
)

# Why a ticket gives no sample. The tree adds its own: a question the leaf already has.
Failure = (
    Literal["invalid_question", "question_prompt_too_long", "question_request_failed", "no_eligible_answer"]
    | Literal["request_quarantined"]
    | JudgeFailure
)
FAILURES: tuple[str, ...] = tuple(name for part in get_args(Failure) for name in get_args(part))


async def harvest_one(ticket: Ticket, models: Models, plan: HarvestPlan) -> tuple[Outcome, Sample | None]:
    """Harvest one ticket: an Outcome, and the Sample unless it failed. Raises SourceLeftOut."""
    started_at = time.time()
    notes = SourceNotes()
    models = NotedModels(models, notes)
    work = TicketWork(ticket, models, plan, notes)
    leader, style = work.draw()
    try:
        question = await work.ask(leader, style)
        candidates = await work.answers(question)
        eligible = tuple(candidate for candidate in candidates if candidate.rejected is None)
        if not eligible:
            raise TicketFailed("no_eligible_answer")
        verdict = await work.judged(leader, question, eligible)
    except TicketFailed as failed:
        return work.outcome(leader, failure=failed.reason), None
    except RequestQuarantined as quarantined:
        # Whatever its role: an answer that is missing for this reason must not decide who wins.
        return work.outcome(leader, failure="request_quarantined", quarantined=quarantined.part), None
    reward = 0 if verdict.winner == models.target else 1
    hash_of_question = question_hash(question)
    heldout = is_heldout(hash_of_question, plan.config.harvest.heldout_fraction)
    sample = Sample(
        sample_id=ticket.ticket_id,
        round=ticket.round,
        step=ticket.step,
        path=ticket.path,
        style=style,
        leader=leader,
        question=question,
        question_hash=hash_of_question,
        candidates=candidates,
        verdict=verdict,
        reward=reward,
        heldout=heldout,
        template_hash=plan.templates.template_hash,
        sampling=plan.sampling_record((*models.sources, models.target)),
        seed=plan.config.seed,
        started_at=started_at,
        finished_at=time.time(),
        question_reasoning=work.question_reasoning,
    )
    outcome = work.outcome(
        leader, reward=reward, question_hash=hash_of_question, heldout=heldout, winner=verdict.winner
    )
    return outcome, sample


class TicketFailed(Exception):
    """This ticket's content cannot become a sample or row; never leaves `harvest/`."""

    def __init__(self, reason: Failure | Literal["heldout"]):
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True)
class TicketWork:
    """The requests of one ticket and their counts."""

    ticket: Ticket
    models: Models
    plan: HarvestPlan
    notes: SourceNotes = field(default_factory=SourceNotes)
    counts: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[Role, str]] = field(default_factory=Counter)  # decoded, by role and model
    question_reasoning: str = ""  # what the leader wrote before the question that `ask` returned

    def draw(self) -> tuple[str, str]:
        """The source that asks, and the style of its question."""
        sources, styles = self.models.sources, self.plan.config.harvest.styles
        leader = sources[int(self.rng("leader").integers(len(sources)))]
        return leader, styles[int(self.rng("style").integers(len(styles)))]

    async def ask(self, leader: str, style: str) -> str:
        """A valid question, within the configured attempts."""
        prompt, config = self.plan.templates.render_question(self.ticket.path, style), self.plan.config.harvest
        for attempt in range(config.question_attempts):
            self.counts["question_retries"] += attempt > 0
            done = await self._generate("question", leader, prompt, attempt)
            if done.error is not None:
                # The prompt is the same at every attempt, and so would be the error.
                name = error_name(done.error)
                self.counts[f"question_rejected:{name}"] += 1
                too_long = name == "prompt_too_long"
                raise TicketFailed("question_prompt_too_long" if too_long else "question_request_failed")
            question = parse_question(done.text)
            problem = reasoning_problem(done) or question_problem(
                question, done.finish_reason, config.min_question_chars, config.length_unit
            )
            if problem is None:
                self.question_reasoning = clean_text(done.reasoning)
                return question
            self.counts[f"question_rejected:{problem}"] += 1
            self.notes.lose(leader, "question", problem)
        raise TicketFailed("invalid_question")

    async def answers(self, question: str) -> tuple[Candidate, ...]:
        """The answers of all sources, then the target's, eligible or not."""
        prompt = self.plan.templates.render_answer(question)
        asked = (*self.models.sources, self.models.target)
        completions = await all_of([self._generate("answer", model, prompt, 0) for model in asked])
        return tuple(self._candidate(done) for done in completions)

    async def judged(self, leader: str, question: str, eligible: tuple[Candidate, ...]) -> Verdict:
        """The judge's verdict, its cost counted."""
        try:
            judgement = await judge_answers(self.ticket, leader, question, eligible, self.models, self.plan)
        except NobodyJudged as nobody:
            self.counts.update(nobody.counts)
            self._spent_on_judging(nobody.tokens)
            raise TicketFailed(nobody.reason) from None
        self.counts.update(judgement.counts)
        self._spent_on_judging(judgement.tokens)
        return judgement.verdict

    def outcome(self, leader: str, **fields: object) -> Outcome:
        num_tokens: Counter[str] = Counter()
        for (role, _), n in self.tokens.items():
            num_tokens[role] += n
        return Outcome(
            self.ticket.ticket_id,
            leader=leader,
            num_tokens={role: n for role, n in num_tokens.items() if n},
            model_tokens={tokens_name(role, model): n for (role, model), n in self.tokens.items() if n},
            counts={name: n for name, n in self.counts.items() if n},
            sources=self.notes.tallies(),
            **fields,  # type: ignore[arg-type]
        )

    def rng(self, purpose: str) -> np.random.Generator:
        return generator(self.plan.config.seed, self.ticket.round, self.ticket.step, self.ticket.index, purpose)

    async def _generate(self, role: Role, model: str, prompt: str, attempt: int) -> Completion:
        ticket = self.ticket
        seed = derived_seed(self.plan.config.seed, ticket.round, ticket.step, ticket.index, role, model, attempt)
        request_id = f"{ticket.ticket_id}/{role}/{model}/{attempt}"
        self.counts[f"{role}_requests"] += 1
        done = await self.models.generate(
            model, GenerationRequest(request_id, role, prompt, self.plan.spec(role, model, seed))
        )
        self.tokens[role, model] += done.num_tokens
        return without_reasoning(done)

    def _spent_on_judging(self, tokens: Mapping[str, int]) -> None:
        for model, number in tokens.items():
            self.tokens["judge", model] += number

    def _candidate(self, done: Completion) -> Candidate:
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
