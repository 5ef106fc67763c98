"""A rank's turns on a shared GPU, with `placement: colocate`: it uses the GPU only while a round's rows are being
trained on.

Used by the train loop. Consumes: the queue's answer that a step is there. Waits for: that answer, however long the
harvest of a round takes. Unblocked by: `put_round`, `finish` or `stop` on the queue.
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
    """This rank's turns on its GPU, with `placement: colocate`; otherwise it may always use it."""

    def __init__(self, colocated: bool, queue: Any, attempt: int, rank: int, world_size: int):
        self._colocated, self._queue = colocated, queue
        self._who = (attempt, world_size, rank)

    def wait(self, step: int) -> bool:
        """Waits until `step` is there; this rank must hold nothing on the GPU. False: no further step will come."""
        answer: type = GlobalStep
        if self._colocated:
            answer = NotYet
        while answer is NotYet:
            answer = ray.get(self._queue.wait_at_rest.remote(*self._who, step, TURN_WAIT_S), timeout=QUEUE_TIMEOUT_S)
        return answer is not Ended

    def give(self, learner: Learner, tally: RoundSums, step: int) -> bool:
        """Leaves the GPU until `step` is there. False: no further step will come."""
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
