"""Thompson sampling on Beta posteriors, which takes all rewards of a domain for equally true, however old.

Thompson (1933), Biometrika 25(3/4), 285-294; for Bernoulli rewards as in Chapelle and Li (2011), NeurIPS, Algorithm 2.
Departure, here and in every policy built on it: a bandit at each node of a tree, with one more arm, `unk`, whose
posterior only elections change; the rewards of a step come as a batch, and they stay true until the weights change.

The other policies derive from it and state only the differences.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from bohdi_ray.config.kinds.bandits import BanditSection
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.policy import Change

SHOWN = 20  # rewards that a node keeps to be looked at where no policy tests them
NEVER = sys.maxsize  # as `min_window`: no window is ever that long, so nothing is tested

Config = TypeVar("Config", bound=BanditSection)


class ThompsonSampling(Generic[Config]):
    deterministic = False
    max_window = SHOWN
    min_window = NEVER
    ages = False

    def __init__(self, config: Config):
        self.config = config

    def scores(
        self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray, plays: np.ndarray, in_flight: np.ndarray
    ) -> np.ndarray:
        """theta ~ Beta(alpha, beta) for every arm, shape [arms]."""
        return rng.beta(alpha, beta)

    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        arms.alpha[arm] += reward
        arms.beta[arm] += 1 - reward

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        return []

    def age(self, arms: Arms) -> None:
        return None


def fade(arms: Arms, factor: float) -> None:
    """Multiplies the evidence about every child by this share; the evidence about `unk` and the prior Beta(1, 1)
    stay."""
    arms.alpha[1:] = 1 + factor * (arms.alpha[1:] - 1)
    arms.beta[1:] = 1 + factor * (arms.beta[1:] - 1)


def reborn(index: int, num_wins: int, num_rewards: int, statistic: float, p_value: float) -> Change:
    """The change to a new posterior: Beta(1, 1) plus these rewards."""
    return Change(index, 1.0 + num_wins, 1.0 + num_rewards - num_wins, statistic, p_value)
