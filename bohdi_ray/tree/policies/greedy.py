"""The largest posterior mean, ties at random: an ablation, what is lost without exploring.

Greedy action selection: Sutton and Barto (2018), Reinforcement Learning, 2nd edition, section 2.2. Departures: means of
posteriors, so that a domain without rewards starts at 1/2; a tree of bandits with `unk`, as in `thompson.py`.
"""

from __future__ import annotations

import numpy as np

from bohdi_ray.config.kinds.bandits import BanditSection
from bohdi_ray.tree.policies.thompson import ThompsonSampling

# Smaller than any difference of two means of up to a million rewards each, and thousands of roundings wide.
JITTER = 1e-12


class Greedy(ThompsonSampling[BanditSection]):
    deterministic = True

    def scores(
        self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray, plays: np.ndarray, in_flight: np.ndarray
    ) -> np.ndarray:
        return alpha / (alpha + beta) + JITTER * rng.random(alpha.shape)


policy = Greedy
