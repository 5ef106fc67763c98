"""Compares what different judging rules would have chosen among the same answers of a miniature's fusion. Pure.

A fusion uses only one judge, and the judge's choices decide where the next samples are taken, so two fusions do not
show two judges the same answers. Here all rules see the eligible answers of one run's samples, with the
log-probabilities that its models give them. jobs/bench/judges.py runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bohdi_ray.harvest.judges.consensus import mean_probabilities
from bohdi_ray.harvest.judges.judging import best_of
from bohdi_ray.harvest.judges.likelihood import mean_ranks
from bohdi_ray.randomness import generator
from bohdi_ray.records import Sample
from bohdi_ray.studies.miniature.world import World, facts_by_question
from bohdi_ray.studies.simulation.report import table

Rows = Mapping[str, Mapping[str, float]]  # by scoring model, by author: log-probability of the answer, nats per byte


@dataclass(frozen=True)
class Contest:
    """A sample whose eligible answers include a right one and a different one, so that there is a choice."""

    sample_id: str
    question: str
    right: str
    leader: str
    texts: dict[str, str]  # by author, eligible answers
    target_version: int  # the weights that the target answered with


def contests(world: World, samples: Sequence[Sample], target: str) -> list[Contest]:
    """The contests among samples that ask about something in the world."""
    facts = facts_by_question(world)
    found = []
    for sample in samples:
        texts = {c.model: c.text for c in sample.candidates if c.rejected is None}
        right = facts[sample.question].answer if sample.question in facts else ""
        if right in texts.values() and len(set(texts.values())) > 1:
            version = next(c.weights_version for c in sample.candidates if c.model == target)
            found.append(Contest(sample.sample_id, sample.question, right, sample.leader, texts, version))
    return found


def _of_others(rows: Rows) -> list[dict[str, float]]:
    return [{author: value for author, value in row.items() if author != scorer} for scorer, row in rows.items()]


def _without(rows: Rows, target: str) -> Rows:
    return {scorer: row for scorer, row in rows.items() if scorer != target}


# Scores of the answers by author, as the judges of harvest/judges have them or would have them.
RULES: dict[str, Callable[[Rows, str, str], dict[str, float]]] = {
    "the leader's own likelihood": lambda rows, leader, target: dict(rows[leader]),
    "likelihood": lambda rows, leader, target: {m: -r for m, r in mean_ranks(_of_others(rows)).items()},
    "consensus": lambda rows, leader, target: mean_probabilities(_of_others(_without(rows, target))),
    "mean probability over all sources": lambda rows, leader, target: mean_probabilities(
        [dict(row) for row in _without(rows, target).values()]
    ),
}


def tally(found: Sequence[tuple[Contest, Rows]], target: str) -> dict[str, Any]:
    """For each rule, how often it chooses a right answer, and how often the leader's own text where that is eligible;
    `chance`: the values for a random choice. Ties are broken as the judge breaks them."""
    rules: dict[str, dict[str, float]] = {rule: {"right": 0, "own": 0} for rule in (*RULES, "chance")}
    for contest, rows in found:
        texts, own = contest.texts, contest.texts.get(contest.leader)
        for rule, scores_of in RULES.items():
            rng = generator(0, "judging", contest.sample_id)
            chosen = texts[best_of(scores_of(rows, contest.leader, target), target, rng)[0]]
            rules[rule]["right"] += chosen == contest.right
            rules[rule]["own"] += chosen == own
        for text in texts.values():
            rules["chance"]["right"] += (text == contest.right) / len(texts)
            rules["chance"]["own"] += (text == own) / len(texts)
    led = sum(contest.leader in contest.texts for contest, _ in found)
    return {"contests": len(found), "leader_eligible": led, "rules": rules}


def show(plain: Mapping[str, Any]) -> str:
    """The result of `tally` as a table for people."""
    number, led = plain["contests"], plain["leader_eligible"]
    rows = [
        [rule, f"{one['right'] / max(1, number):.2f}", f"{one['own'] / max(1, led):.2f}"]
        for rule, one in plain["rules"].items()
    ]
    heading = ["judge", "right", "the leader's own text"]
    counted = f"{number} samples with a right and another answer, {led} of them with one of the leader's"
    return f"{counted}\n{table(heading, rows)}"
