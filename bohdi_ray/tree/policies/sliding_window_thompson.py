"""Sliding-window Thompson sampling: a node believes in the last `bandit.horizon` credits among its children alone.

Trovo, Paladino, Restelli and Gatti (2020), "Sliding-Window Thompson Sampling for Non-Stationary Settings", Journal of
Artificial Intelligence Research 68, 311-364, doi 10.1613/jair.1.11407: SW-TS with the Beta(1, 1) prior. Departure: a
node's time is the number of credits there, not of the walks of the whole tree, or most nodes would always be empty.
"""

from __future__ import annotations

import struct

from bohdi_ray.config.kinds.bandits import SlidingWindowThompsonBandit
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.thompson import ThompsonSampling

ENTRY = struct.Struct("<I")  # of `memory`, oldest first: 2 * arm + reward


class SlidingWindowThompson(ThompsonSampling[SlidingWindowThompsonBandit]):
    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        super().credit(arms, arm, reward)
        memory = arms.memory + ENTRY.pack(2 * arm + reward)
        if len(memory) > self.config.horizon * ENTRY.size:
            oldest, lost = divmod(ENTRY.unpack_from(memory)[0], 2)
            arms.alpha[oldest] -= lost
            arms.beta[oldest] -= 1 - lost
            memory = memory[ENTRY.size :]
        arms.memory = memory


policy = SlidingWindowThompson
