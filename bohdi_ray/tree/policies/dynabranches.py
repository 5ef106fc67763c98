"""DynaBranches, the paper's policy: Beta posteriors, Thompson sampling, rebirth (method, sections 2, 5, 6)."""

from __future__ import annotations

import numpy as np

from bohdi_ray.config import BanditConfig
from bohdi_ray.tree.introspection import swblrt


class DynaBranches:
    def __init__(self, config: BanditConfig):
        self.config = config

    def scores(self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """theta ~ Beta(alpha, beta) for every arm, shape [arms]; the walk follows the largest."""
        return rng.beta(alpha, beta)

    def credit(self, alpha: float, beta: float, reward: int) -> tuple[float, float]:
        return alpha + reward, beta + 1 - reward

    def on_introspection(self, alpha: float, beta: float, window: bytes) -> tuple[float, float, float, float] | None:
        num_wins, num_rewards = sum(window), len(window)
        statistic, p_value = swblrt(alpha, beta, num_wins, num_rewards)
        if p_value >= self.config.threshold:
            return None
        return 1.0 + num_wins, 1.0 + num_rewards - num_wins, statistic, p_value
