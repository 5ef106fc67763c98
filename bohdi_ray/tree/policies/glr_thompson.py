"""Thompson sampling with restarts by the Bernoulli generalised likelihood-ratio change detector.

Besson, Kaufmann, Maillard and Seznec (2022), "Efficient Change-Point Detection for Tackling Piecewise-Stationary
Bandits", JMLR 23(77), 1-40, arXiv 1902.01575: the test of section 2 with the threshold of its experiments, local
restarts (Algorithm 1, GLR-klUCB). Departures: Thompson sampling in place of kl-UCB and of its forced exploration; the
scan is over the rewards since the last rebirth that the window still holds; it runs once per new weights, not per
reward; a restart keeps the rewards after the most likely change point, for most of them come from the new rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bohdi_ray.config.kinds.bandits import GlrThompsonBandit
from bohdi_ray.tree.introspection import bernoulli_glr, glr_p_values
from bohdi_ray.tree.policies.policy import Change
from bohdi_ray.tree.policies.thompson import ThompsonSampling, reborn

MIN_WINDOW = 10  # rewards; with fewer, not even the clearest change reaches the threshold at common error rates


class GlrThompson(ThompsonSampling[GlrThompsonBandit]):
    def __init__(self, config: GlrThompsonBandit):
        super().__init__(config)
        self.min_window, self.max_window = min(MIN_WINDOW, config.window), config.window

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        num_since = np.rint(alpha + beta - 2).astype(int).tolist()
        since = [window[-num:] for window, num in zip(windows, num_since, strict=True)]
        statistics, splits = bernoulli_glr(since)
        p_values = glr_p_values(statistics, np.array([len(window) for window in since]))
        found = []
        for i in np.flatnonzero(p_values <= self.config.false_alarm_rate).tolist():
            new = since[i][splits[i] :]
            found.append(reborn(i, new.count(1), len(new), float(statistics[i]), float(p_values[i])))
        return found


policy = GlrThompson
