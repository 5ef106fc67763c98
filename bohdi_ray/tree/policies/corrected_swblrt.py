"""The paper's policy with its detector mended (ours): two samples, an exact test, a correction for many domains.

SWBLRT (method, section 6) has three faults: it takes the history's rate for known without error, that history holds
the window itself, and each of many domains is tested at the full level. Here the window is compared with the rewards
before it, by the likelihood ratio of two binomial samples; its p-value is the mid-p (Lancaster 1961, JASA 56, 223-234)
in the exact distribution given the sum of wins (Fisher's conditional argument); and the procedure of Benjamini and
Hochberg (1995, JRSS B 57, 289-300) holds the level over all domains tested before a round. Domains that could not reach
the level whatever their window held are not counted (Tarone 1990, Biometrics 46, 515-522; for false discovery rates
Gilbert 2005, Applied Statistics 54, 143-158). A domain whose posterior is its window alone, as right after a rebirth,
has no history and is not tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bohdi_ray.config.kinds.bandits import CorrectedSwblrtBandit
from bohdi_ray.tree.introspection import benjamini_hochberg, count, two_sample_test
from bohdi_ray.tree.policies.policy import Change
from bohdi_ray.tree.policies.thompson import ThompsonSampling, reborn


class CorrectedSwblrt(ThompsonSampling[CorrectedSwblrtBandit]):
    def __init__(self, config: CorrectedSwblrtBandit):
        super().__init__(config)
        self.min_window = self.max_window = config.window

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        level = self.config.false_alarm_rate
        num_wins, num_rewards = count(windows)
        old_wins = np.rint(alpha - 1).astype(int) - num_wins
        old_rewards = np.rint(alpha + beta - 2).astype(int) - num_rewards
        statistics, p_values, smallest = two_sample_test(num_wins, num_rewards, old_wins, old_rewards)
        testable = np.flatnonzero(smallest <= level)
        changed = testable[benjamini_hochberg(p_values[testable], level)]
        return [
            reborn(i, int(num_wins[i]), int(num_rewards[i]), float(statistics[i]), float(p_values[i]))
            for i in changed.tolist()
        ]


policy = CorrectedSwblrt
