"""Shared code of the judges: ballots by label and by likelihood, rotations, winner and margin, reading of labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bohdi_ray.config.kinds.judges import LabelJudge
from bohdi_ray.engines.chat.reasoning import without_reasoning
from bohdi_ray.engines.models import Models, all_of, error_name
from bohdi_ray.engines.prompts import LABELS, parse_label
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.questions.source import Question
from bohdi_ray.randomness import generator
from bohdi_ray.records import EngineReply, GenerationRequest, ScoreRequest, Ticket, Verdict

JudgeFailure = Literal["judge_prompt_too_long", "judge_request_failed", "judge_unreadable"]
TIE = 1e-9  # scores closer than this are equal
FLOOR = -50.0  # least log-probability stored; a label a judge left out


class NobodyJudged(Exception):
    """No judge could judge. This is due to the ticket's texts, so the error never leaves `harvest/`."""

    def __init__(self, reason: JudgeFailure, counts: dict[str, int], tokens: dict[str, int]):
        self.reason, self.counts, self.tokens = reason, counts, tokens
        super().__init__(reason)


@dataclass(slots=True)
class Ballot:
    """One judge's label log-probabilities for one presented order."""

    judge: str
    order: tuple[str, ...]
    logprobs: dict[str, float]


@dataclass(slots=True)
class Judgement:
    """A verdict and its cost."""

    verdict: Verdict
    tokens: dict[str, int] = field(default_factory=dict)  # decoded, by judging model
    counts: dict[str, int] = field(default_factory=dict)


def rotations(models: tuple[str, ...], num_orders: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The first `num_orders` rotations of one random order, at most as many as there are answers."""
    order = [models[i] for i in rng.permutation(len(models))]
    return [tuple(order[k:] + order[:k]) for k in range(min(num_orders, len(order)))]


def best_of(scores: dict[str, float], target: str, rng: np.random.Generator) -> tuple[str, float]:
    """Winner and margin. The target wins only without a tie; among tied sources one is drawn."""
    top = max(scores.values())
    best = [model for model, score in scores.items() if score >= top - TIE]
    sources = [model for model in best if model != target]
    winner = sources[int(rng.integers(len(sources)))] if sources else target
    if len(best) > 1:
        return winner, 0.0
    return winner, top - max(score for model, score in scores.items() if model != winner)


@dataclass(slots=True)
class Judging:
    """One ticket's eligible answers, and what judging them has cost so far."""

    ticket: Ticket
    asked: Question
    texts: dict[str, str]  # by model, eligible answers
    models: Models
    plan: HarvestPlan
    tokens: dict[str, int] = field(default_factory=dict)  # decoded, by judging model
    counts: dict[str, int] = field(default_factory=dict)

    async def likelihood_ballots(self, scorers: tuple[str, ...]) -> list[Ballot]:
        """For each of these models, the likelihood of the answers that it did not write."""
        rows = await all_of([self._likelihoods(scorer) for scorer in scorers])
        return [Ballot(s, tuple(row), row) for s, row in zip(scorers, rows, strict=True) if row]

    def judgement_of_all(self, scores: dict[str, float], ballots: list[Ballot]) -> Judgement:
        """The verdict when no single judge decides, if every answer has a score. Raises NobodyJudged."""
        if scores.keys() != self.texts.keys():
            raise self.nobody()
        return self.judgement(None, {model: scores[model] for model in self.texts}, ballots)

    async def label_ballots(self, judge: str, shown: tuple[str, ...], purpose: str) -> list[Ballot]:
        """One judge's ballots over all orders; none if it cannot read the answers."""
        section = self.plan.config.judge
        assert isinstance(section, LabelJudge)
        orders = rotations(shown, section.orders, self._rng(purpose))
        requests = [self._request(judge, order, k) for k, order in enumerate(orders)]
        completions = await all_of([self.models.ask(judge, request) for request in requests])
        completions = [without_reasoning(done) for done in completions]
        self._count("judge_requests", len(requests))
        ballots = []
        for order, done in zip(orders, completions, strict=True):
            self.tokens[judge] = self.tokens.get(judge, 0) + done.num_tokens
            logprobs = label_logprobs(done, len(order))
            if done.error is not None:
                self._count(f"judge_rejected:{error_name(done.error)}")
            elif logprobs is None:
                self._count("judge_rejected:unreadable")
            else:
                ballots.append(Ballot(judge, order, dict(zip(order, logprobs, strict=True))))
        # Half of a set of rotations would bring back the bias they remove.
        return ballots if len(ballots) == len(orders) else []

    def _request(self, judge: str, order: tuple[str, ...], k: int) -> GenerationRequest:
        prompt = self.plan.templates.render_judge(self.asked.text, [self.texts[model] for model in order])
        return replace(self.plan.request(self.ticket, "judge", judge, prompt, k), choices=LABELS[: len(order)])

    async def _likelihoods(self, scorer: str) -> dict[str, float]:
        """Log-probability per byte of every answer that the scorer did not write; empty if one does not fit its context
        window."""
        prompt = self.plan.templates.render_answer(self.asked.text)
        shown = [model for model in self.texts if model != scorer]
        requests = [
            ScoreRequest(f"{self.ticket.ticket_id}/score/{scorer}/{i}", "judge", prompt, self.texts[model])
            for i, model in enumerate(shown)
        ]
        completions = await all_of([self.models.ask(scorer, request) for request in requests])
        self._count("judge_requests", len(requests))
        row = {}
        for model, done in zip(shown, completions, strict=True):
            if done.error is not None:
                self._count(f"judge_rejected:{error_name(done.error)}")
            elif done.logprob is None or not math.isfinite(done.logprob):
                self._count("judge_rejected:unreadable")
            else:
                row[model] = done.logprob / max(done.num_bytes, 1)
        return row if len(row) == len(shown) else {}

    def judgement(self, judge: str | None, scores: dict[str, float], ballots: list[Ballot]) -> Judgement:
        """The verdict that follows from these scores."""
        winner, margin = best_of(scores, self.models.target, self._rng("tie"))
        verdict = Verdict(
            policy=self.plan.config.judge.kind,
            judge=judge,
            scores=scores,
            order_logprobs=tuple(ballot.logprobs for ballot in ballots),
            orders=tuple(ballot.order for ballot in ballots),
            winner=winner,
            margin=margin,
            order_judges=tuple(ballot.judge for ballot in ballots),
        )
        return Judgement(verdict, self.tokens, self.counts)

    def _rng(self, purpose: str) -> np.random.Generator:
        return generator(self.plan.config.seed, self.ticket.round, self.ticket.step, self.ticket.index, purpose)

    def _count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def nobody(self) -> NobodyJudged:
        """The error for a ticket without a verdict."""
        reasons: dict[str, JudgeFailure] = {
            "judge_rejected:unreadable": "judge_unreadable",
            "judge_rejected:request_failed": "judge_request_failed",
        }
        found = [failure for name, failure in reasons.items() if name in self.counts]
        return NobodyJudged(found[0] if found else "judge_prompt_too_long", self.counts, self.tokens)


def label_logprobs(done: EngineReply, num_labels: int) -> list[float] | None:
    """Log-probability of every label, normalised; None if the judge's text names none.

    A server that returns no log-probabilities gives the label it named probability 1.
    """
    labels = LABELS[:num_labels]
    given = done.choice_logprobs
    if given is None or not any(given.get(label, -math.inf) > FLOOR for label in labels):
        named = parse_label(done.text, labels)
        return None if named is None else [0.0 if label == named else FLOOR for label in labels]
    # What is not above FLOOR, NaN among it, counts as FLOOR; no probability is above 1. The C library's functions are
    # the same on every machine, NumPy's are not.
    values = [min(v, 0.0) if (v := given.get(label, FLOOR)) > FLOOR else FLOOR for label in labels]
    top = max(values)
    total = math.log(sum(math.exp(value - top) for value in values))
    return [max(value - top - total, FLOOR) for value in values]
