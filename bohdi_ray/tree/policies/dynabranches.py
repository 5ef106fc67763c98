"""DynaBranches, the paper's policy: Beta posteriors, Thompson sampling, rebirth (method, sections 2, 5, 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bohdi_ray.config import BanditConfig
from bohdi_ray.tree.introspection import swblrt
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.policy import Change


class DynaBranches:
    ages = False

    def __init__(self, config: BanditConfig):
        self.config = config
        self.min_window = config.window

    def scores(self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """theta ~ Beta(alpha, beta) for every arm, shape [arms]; the walk follows the largest."""
        return rng.beta(alpha, beta)

    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        arms.alpha[arm] += reward
        arms.beta[arm] += 1 - reward

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        found = []
        for index, window in enumerate(windows):
            num_wins, num_rewards = sum(window), len(window)
            statistic, p_value = swblrt(float(alpha[index]), float(beta[index]), num_wins, num_rewards)
            if p_value < self.config.threshold:
                found.append(Change(index, 1.0 + num_wins, 1.0 + num_rewards - num_wins, statistic, p_value))
        return found

    def age(self, arms: Arms) -> None:
        return None
