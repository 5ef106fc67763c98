"""Rows of a round -> numbered global steps -> one rank's share, and the learning rate of a step. Pure arithmetic.

Used by the SampleQueue (cutting rounds into steps), the train loop (shares, rate) and the configuration's checks. A
*global step* is one optimizer step over all ranks. Steps are numbered over the whole run, so a number names its rows.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bohdi_ray.config import ScheduleConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GlobalStep:
    """One numbered step of the queue, by ids. A round without rows is one step without rows: no update, a commit."""

    step: int
    round: int
    rows: tuple[str, ...]  # ids of examples; the same id may come several times
    last_of_round: bool
    heldout: tuple[str, ...] = ()  # ids, with the last step of a round only: measured, never trained on
    new_heldout: tuple[str, ...] = ()  # of these, those that no earlier step of this start of the workers had
    put_at: float = 0.0  # when its round was put, Unix time, s


def step_sizes(num_rows: int, global_batch_size: int) -> list[int]:
    """Rows of each step of a round: as few steps as fit, sizes differing by at most one, larger ones first.

    A round without rows still has one (empty) step, because its weights are committed as the next version all the same.
    """
    num_steps = max(1, math.ceil(num_rows / global_batch_size))
    small, num_large = divmod(num_rows, num_steps)
    return [small + 1] * num_large + [small] * (num_steps - num_large)


def cut_round(
    round: int, first_step: int, rows: Sequence[str], heldout: Sequence[str], global_batch_size: int
) -> list[GlobalStep]:
    """The steps of one round, numbered from `first_step`, rows in their order."""
    sizes = step_sizes(len(rows), global_batch_size)
    steps, start = [], 0
    for offset, size in enumerate(sizes):
        last = offset == len(sizes) - 1
        chunk = tuple(rows[start : start + size])
        steps.append(GlobalStep(first_step + offset, round, chunk, last, tuple(heldout) if last else ()))
        start += size
    return steps


def share_of_rank(rows: Sequence[T], world_size: int, rank: int) -> list[T]:
    """Every world_size-th row: shares differ by at most one row, and together they contain every row once."""
    return list(rows[rank::world_size])


def heldout_of_rank(ids: Sequence[str], world_size: int, rank: int) -> tuple[str, ...]:
    """The held-out examples that a rank evaluates: an example always goes to the same rank, whichever others there
    are."""
    return tuple(one for one in ids if zlib.crc32(one.encode()) % world_size == rank)


def learning_rate(step: int, peak: float, schedule: ScheduleConfig, total_steps: int) -> float:
    """Rate of the optimizer step with this number (from 0): linear warm-up, then the schedule's shape.

    The first of `warmup_steps` steps already has a positive rate: peak / warmup_steps, not 0.
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.kind == "constant":
        return peak
    left = max(1, total_steps - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / left)
    falling = 1 - progress if schedule.kind == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return peak * (schedule.min_ratio + (1 - schedule.min_ratio) * falling)
