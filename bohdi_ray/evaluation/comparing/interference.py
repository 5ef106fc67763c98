"""Interference: on how many tasks a fused model is worse than the target that the fusion began with. Pure.

Papers on fusion count tasks below the target from single scores, without a script or an interval (Fusion-X's "up to
50 % less interference"). Here the raw count stands beside the count of losses beyond the paired interval, what each
task could show at all, and how many of either are to be expected although nothing has changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bohdi_ray.evaluation.comparing.differences import Difference

SIGMAS = 1.96  # two-sided, 5 %
MANY = 1000  # changed questions, beyond which the binomial distribution is the normal one
POWER_SIGMAS = 0.84  # a drop of that many more standard errors is found in 80 % of the cases


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """One task: the difference to the target before, and what its number of questions can show."""

    task: str
    difference: Difference
    detectable: float  # the smallest true drop that would be found in 80 % of the cases


@dataclass(frozen=True, slots=True)
class Interference:
    """Over all single tasks; counts are of tasks."""

    num_tasks: int
    num_below: int  # comparable to papers' counts
    num_beyond: int  # of these, with the whole interval below
    num_above: int
    num_gained: int  # of these, with the whole interval above
    mean_drop: float | None  # over those below, None if there are none
    mean_drop_beyond: float | None
    below_by_chance: float  # expected if nothing had changed but which questions fall
    beyond_by_chance: float
    tasks: tuple[TaskLoss, ...]  # the largest drop first

    def less_than(self, other: Interference) -> float | None:
        """The relative reduction of the raw count against another model's; None if that one has no task below."""
        return 1 - self.num_below / other.num_below if other.num_below else None


def interference(differences: Mapping[str, Difference]) -> Interference:
    """From the differences of a model to the target before, by single task, higher is better."""
    below = {task: d for task, d in differences.items() if d.mean < 0}
    beyond = {task: d for task, d in below.items() if d.is_loss}
    chances = [_chances(d) for d in differences.values()]
    losses = [TaskLoss(task, d, _detectable(d)) for task, d in differences.items()]
    return Interference(
        num_tasks=len(differences),
        num_below=len(below),
        num_beyond=len(beyond),
        num_above=sum(d.mean > 0 for d in differences.values()),
        num_gained=sum(d.is_gain for d in differences.values()),
        mean_drop=_mean_drop(below),
        mean_drop_beyond=_mean_drop(beyond),
        below_by_chance=sum(any_loss for any_loss, _ in chances),
        beyond_by_chance=sum(clear_loss for _, clear_loss in chances),
        tasks=tuple(sorted(losses, key=lambda loss: (loss.difference.mean, loss.task))),
    )


def _mean_drop(differences: Mapping[str, Difference]) -> float | None:
    return -sum(d.mean for d in differences.values()) / len(differences) if differences else None


def _chances(d: Difference) -> tuple[float, float]:
    """If each question that changed was as likely lost as gained: the probabilities that the task is below, and that
    it is with its whole interval. Of scores other than right and wrong, and of many changes, those of a normal
    distribution."""
    num_changed = d.num_gained + d.num_lost
    if num_changed and (not d.is_binary or num_changed >= MANY):
        return 0.5, 0.025
    ways = [math.comb(num_changed, lost) / 2.0**num_changed for lost in range(num_changed + 1)]
    any_loss = sum(way for lost, way in enumerate(ways) if 2 * lost > num_changed)
    far = SIGMAS * math.sqrt(num_changed)
    return any_loss, sum(way for lost, way in enumerate(ways) if 2 * lost - num_changed > far)


def _detectable(d: Difference) -> float:
    """By the size of the differences; of right and wrong answers with one more question changed and one more not, so
    that a task without any change is not taken for certain."""
    square = d.root_mean_square**2
    if d.is_binary:
        square = (square * d.num_questions + 1) / (d.num_questions + 2)
    return (SIGMAS + POWER_SIGMAS) * math.sqrt(square / d.num_questions)
