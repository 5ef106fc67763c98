"""Choosing the best of several answers (method, section 4, point 5 and section 9). Called by `harvest.py` only.

Policies:
- `leader`: the question's author names the best answer. Answers are shown in a random order; with `orders` n the label
  probabilities are averaged over n rotations of it (n = number of answers puts every answer into every slot once).
- `others`: every source judges all answers but its own. An answer's score is the mean, over the judges that saw it, of
  the log-odds of its label, less the log-odds it would have by chance among as many answers. Limits: the target's
  answer is seen by one judge more than a source's; judges see different sets, so their log-odds compare only roughly
  (probabilities are clipped to [0.001, 0.999], so that one certain judge cannot outvote the others); answers that no
  judge could compare (two sources' answers, no third source) score 0, as good as chance, and tie.
- `likelihood`: sources and target each rank the answers they did not write by log-probability per byte; an answer's
  score is minus its mean rank. Ranks within a tie are averaged. Every answer is left out of the ranking of its own
  author only, so the ranks compare.
- `consensus`: an answer's score is its mean probability under the sources that did not write it, each the geometric
  mean per byte. Unlike a rank it tells a source that knows from one that merely prefers. The target has no say.
  Two answers in the same words stay two: each is left to the sources that did not write that one, so they need not tie.

A judge whose window the answers do not fit abstains; when nobody is left, the ticket fails. Answers are never shortened
for a judge: it would judge another text than the one that becomes the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bohdi_ray.engines.chat.reasoning import without_reasoning
from bohdi_ray.engines.prompts import LABELS, parse_label
from bohdi_ray.harvest.models import Models, all_of, error_name
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.randomness import derived_seed, generator
from bohdi_ray.records import Candidate, Completion, GenerationRequest, ScoreRequest, Ticket, Verdict

JudgeFailure = Literal["judge_prompt_too_long", "judge_request_failed", "judge_unreadable"]
TIE = 1e-9  # scores closer than this are equal
FLOOR = -50.0  # least log-probability stored; a label a judge left out
CLIP = 1e-3


class NobodyJudged(Exception):
    """No judge could judge; a fault of this ticket's texts, so it never leaves `harvest/`."""

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
    """A verdict and what it cost."""

    verdict: Verdict
    tokens: dict[str, int] = field(default_factory=dict)  # decoded, by judging model
    counts: dict[str, int] = field(default_factory=dict)


async def judge(
    ticket: Ticket, leader: str, question: str, eligible: tuple[Candidate, ...], models: Models, plan: HarvestPlan
) -> Judgement:
    """The verdict on the eligible answers (at least one). Raises NobodyJudged."""
    if len(eligible) == 1:
        only = eligible[0].model
        return Judgement(Verdict("only", None, {only: 1.0}, (), (), only, None))
    court = Judging(ticket, question, {c.model: c.text for c in eligible}, models, plan)
    if plan.config.judge.policy == "likelihood":
        return await court.by_likelihood()
    if plan.config.judge.policy == "consensus":
        return await court.by_consensus()
    if plan.config.judge.policy == "others":
        return await court.by_others()
    return await court.by_leader(leader)


def rotations(models: tuple[str, ...], num_orders: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The first `num_orders` rotations of one random order; more than there are answers would only repeat."""
    order = [models[i] for i in rng.permutation(len(models))]
    return [tuple(order[k:] + order[:k]) for k in range(min(num_orders, len(order)))]


def mean_ranks(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean rank of every model over the rows that hold it; rank 1 is the highest value, ties share their mean rank."""
    ranks: dict[str, list[float]] = {}
    for row in rows:
        for model, value in row.items():
            above = sum(other > value for other in row.values())
            same = sum(other == value for other in row.values())
            ranks.setdefault(model, []).append(above + (same + 1) / 2)
    return {model: float(np.mean(values)) for model, values in ranks.items()}


def mean_probabilities(rows: list[dict[str, float]]) -> dict[str, float]:
    """`consensus`: mean probability of every model's answer over the rows (log-probabilities) that hold it."""
    held: dict[str, list[float]] = {}
    for row in rows:
        for model, logprob in row.items():
            held.setdefault(model, []).append(math.exp(min(logprob, 0.0)))
    return {model: float(np.mean(values)) for model, values in held.items()}


def odds_scores(ballots: list[Ballot], models: tuple[str, ...]) -> dict[str, float]:
    """`others`: per model the mean over its judges of the clipped log-odds of its label, less those of chance."""
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


def best_of(scores: dict[str, float], target: str, rng: np.random.Generator) -> tuple[str, float]:
    """Winner and margin. The target wins only alone; among tied sources the draw decides."""
    top = max(scores.values())
    best = [model for model, score in scores.items() if score >= top - TIE]
    sources = [model for model in best if model != target]
    winner = sources[int(rng.integers(len(sources)))] if sources else target
    if len(best) > 1:
        return winner, 0.0
    return winner, top - max(score for model, score in scores.items() if model != winner)


@dataclass(slots=True)
class Judging:
    ticket: Ticket
    question: str
    texts: dict[str, str]  # by model, eligible answers
    models: Models
    plan: HarvestPlan
    tokens: dict[str, int] = field(default_factory=dict)  # decoded, by judging model
    counts: dict[str, int] = field(default_factory=dict)

    async def by_leader(self, leader: str) -> Judgement:
        ballots = await self._ballots(leader, tuple(self.texts), "order")
        if not ballots:
            raise self._nobody()
        scores = {m: float(np.mean([math.exp(b.logprobs[m]) for b in ballots])) for m in self.texts}
        return self._judgement("leader", leader, scores, ballots)

    async def by_others(self) -> Judgement:
        judges = [s for s in self.models.sources if len(self.texts.keys() - {s}) > 1]
        seen = await all_of([self._ballots(j, tuple(m for m in self.texts if m != j), f"order/{j}") for j in judges])
        ballots = [ballot for some in seen for ballot in some]
        if judges and not ballots:
            raise self._nobody()
        return self._judgement("others", None, odds_scores(ballots, tuple(self.texts)), ballots)

    async def by_likelihood(self) -> Judgement:
        ballots = await self._likelihood_ballots((*self.models.sources, self.models.target))
        ranks = mean_ranks([ballot.logprobs for ballot in ballots])
        return self._judgement_of_all("likelihood", {model: -rank for model, rank in ranks.items()}, ballots)

    async def by_consensus(self) -> Judgement:
        ballots = await self._likelihood_ballots(self.models.sources)
        return self._judgement_of_all("consensus", mean_probabilities([b.logprobs for b in ballots]), ballots)

    async def _likelihood_ballots(self, scorers: tuple[str, ...]) -> list[Ballot]:
        rows = await all_of([self._likelihoods(scorer) for scorer in scorers])
        return [Ballot(s, tuple(row), row) for s, row in zip(scorers, rows, strict=True) if row]

    def _judgement_of_all(self, policy: str, scores: dict[str, float], ballots: list[Ballot]) -> Judgement:
        if scores.keys() != self.texts.keys():
            raise self._nobody()
        return self._judgement(policy, None, {model: scores[model] for model in self.texts}, ballots)

    async def _ballots(self, judge: str, shown: tuple[str, ...], purpose: str) -> list[Ballot]:
        """One judge's ballots over all orders; none if it cannot read the answers."""
        orders = rotations(shown, self.plan.config.judge.orders, self._rng(purpose))
        requests = [self._request(judge, order, k) for k, order in enumerate(orders)]
        completions = await all_of([self.models.generate(judge, request) for request in requests])
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
        ticket = self.ticket
        seed = derived_seed(self.plan.config.seed, ticket.round, ticket.step, ticket.index, "judge", judge, k)
        return GenerationRequest(
            request_id=f"{ticket.ticket_id}/judge/{judge}/{k}",
            role="judge",
            prompt=self.plan.templates.render_judge(self.question, [self.texts[model] for model in order]),
            sampling=self.plan.spec("judge", judge, seed),
            choices=LABELS[: len(order)],
        )

    async def _likelihoods(self, scorer: str) -> dict[str, float]:
        """Log-probability per byte of every answer the scorer did not write; empty if one does not fit its window."""
        prompt = self.plan.templates.render_answer(self.question)
        shown = [model for model in self.texts if model != scorer]
        requests = [
            ScoreRequest(f"{self.ticket.ticket_id}/score/{scorer}/{i}", "judge", prompt, self.texts[model])
            for i, model in enumerate(shown)
        ]
        completions = await all_of([self.models.score(scorer, request) for request in requests])
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

    def _judgement(self, policy: str, judge: str | None, scores: dict[str, float], ballots: list[Ballot]) -> Judgement:
        winner, margin = best_of(scores, self.models.target, self._rng("tie"))
        verdict = Verdict(
            policy=policy,
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

    def _nobody(self) -> NobodyJudged:
        reasons: dict[str, JudgeFailure] = {
            "judge_rejected:unreadable": "judge_unreadable",
            "judge_rejected:request_failed": "judge_request_failed",
        }
        found = [failure for name, failure in reasons.items() if name in self.counts]
        return NobodyJudged(found[0] if found else "judge_prompt_too_long", self.counts, self.tokens)


def label_logprobs(done: Completion, num_labels: int) -> list[float] | None:
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
