"""A rank's turns on its card, with `placement: colocate`: nothing of it is there but while a round's rows are.

Used by the train loop. Consumes: the queue's word that a step is there. Waits for: that, however long a round is
harvested. Unblocked by: `put_round`, `finish` or `stop` on the queue.
"""

from __future__ import annotations

import time
from typing import Any

import ray

from bohdi_ray.training.feed.queue import Ended, NotYet
from bohdi_ray.training.feed.steps import GlobalStep
from bohdi_ray.training.learner import Learner
from bohdi_ray.training.round_metrics import RoundSums

QUEUE_TIMEOUT_S = 300.0
TURN_WAIT_S = 20.0  # one long poll


class CardTurns:
    """This rank's turns on its card, with `placement: colocate`; else it is always its turn."""

    def __init__(self, colocated: bool, queue: Any, attempt: int, rank: int, world_size: int):
        self._colocated, self._queue = colocated, queue
        self._who = (attempt, world_size, rank)

    def wait(self, step: int) -> bool:
        """Waits until `step` is there; nothing of this rank may be on the card. False: no step will come."""
        answer: type = GlobalStep
        if self._colocated:
            answer = NotYet
        while answer is NotYet:
            answer = ray.get(self._queue.wait_at_rest.remote(*self._who, step, TURN_WAIT_S), timeout=QUEUE_TIMEOUT_S)
        return answer is not Ended

    def give(self, learner: Learner, tally: RoundSums, step: int) -> bool:
        """Leaves the card until `step` is there. False: no step will come."""
        if not self._colocated:
            return True
        began = time.perf_counter()
        learner.leave_card()
        left = time.perf_counter()
        goes_on = self.wait(step)
        called = time.perf_counter()
        if goes_on:
            learner.enter_card()
        tally.seconds["waiting"] += called - left
        tally.seconds["switching"] += left - began + time.perf_counter() - called
        return goes_on
