"""DynaBranches, the paper's policy: Beta posteriors, Thompson sampling, rebirth (method, sections 2, 5, 6).

arXiv 2506.15721. Departure: introspection before a round with new target weights, not before every round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bohdi_ray.config.kinds.bandits import DynabranchesBandit
from bohdi_ray.tree.introspection import count, swblrts
from bohdi_ray.tree.policies.policy import Change
from bohdi_ray.tree.policies.thompson import ThompsonSampling, reborn


class DynaBranches(ThompsonSampling[DynabranchesBandit]):
    def __init__(self, config: DynabranchesBandit):
        super().__init__(config)
        self.min_window = self.max_window = config.window

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        num_wins, num_rewards = count(windows)
        statistics, p_values = swblrts(alpha, beta, num_wins, num_rewards)
        return [
            reborn(i, int(num_wins[i]), int(num_rewards[i]), float(statistics[i]), float(p_values[i]))
            for i in np.flatnonzero(p_values < self.config.threshold).tolist()
        ]


policy = DynaBranches
