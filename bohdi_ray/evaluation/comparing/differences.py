"""Scores of several models on the same questions, and what their differences are worth. Pure numpy.

Two models are compared question by question: an interval of the mean difference by a paired bootstrap, percentiles of
10,000 resamples of the questions (Efron and Tibshirani 1993, chapter 13). In a group of tasks each task's questions are
resampled by themselves, and its means are weighted as lm-eval weights them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Scores:
    """One model's values of one metric on a task's questions, higher is better; [n] each, in the same order."""

    questions: tuple[str, ...]  # what identifies each
    values: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None for a single question."""
        n = len(self.values)
        return float(self.values.std(ddof=1) / np.sqrt(n)) if n > 1 else None


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better a model is than another: mean over the questions, and its interval at 95 %."""

    mean: float
    low: float
    high: float
    num_questions: int
    num_gained: int  # questions on which its value is higher
    num_lost: int
    root_mean_square: float  # of the differences by question
    is_binary: bool  # each question is gained, lost or unchanged by 1

    @property
    def is_loss(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    @property
    def is_gain(self) -> bool:
        return self.low > 0


def paired(scores: Scores, others: Scores) -> np.ndarray:
    """Differences [n], `scores` less `others`, by question. Raises ValueError if these are not the same questions."""
    if scores.questions != others.questions:
        places = {question: i for i, question in enumerate(others.questions)}
        if set(places) != set(scores.questions) or len(places) != len(others.questions):
            raise ValueError("the two models were not asked the same questions")
        return scores.values - others.values[[places[question] for question in scores.questions]]
    return scores.values - others.values


def difference(parts: Sequence[np.ndarray], weights: Sequence[float], name: str) -> Difference:
    """The difference over tasks, from each one's differences by question; `weights` add up to 1. The same `name` draws
    the same resamples."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    rng = np.random.default_rng(seed)
    resampled = np.zeros(RESAMPLES)
    mean = 0.0
    for part, weight in zip(parts, weights, strict=True):
        values, counts = np.unique(part, return_counts=True)
        drawn = rng.multinomial(len(part), counts / len(part), size=RESAMPLES)
        resampled += weight * (drawn @ values) / len(part)
        mean += weight * float(part.mean())
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(
        mean=mean,
        low=float(low),
        high=float(high),
        num_questions=sum(map(len, parts)),
        num_gained=int(sum((part > 0).sum() for part in parts)),
        num_lost=int(sum((part < 0).sum() for part in parts)),
        root_mean_square=float(np.sqrt(np.mean(np.concatenate(parts) ** 2))),
        is_binary=all(bool(np.isin(part, (-1, 0, 1)).all()) for part in parts),
    )


def group_weights(sizes: Mapping[str, int], by_size: bool) -> dict[str, float]:
    """The weight of each task in its group: its share of the questions, or the same for all."""
    total = sum(sizes.values())
    return {task: size / total if by_size else 1 / len(sizes) for task, size in sizes.items()}
