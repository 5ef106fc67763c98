"""Every arm equally likely, `unk` as well: the ablation "without DynaBranches" of arXiv 2506.15721.

Departure: what takes the bandit's place there is not specified in detail; a uniform choice is the plainest reading.
"""

from __future__ import annotations

import numpy as np

from bohdi_ray.config.kinds.bandits import BanditSection
from bohdi_ray.tree.policies.thompson import ThompsonSampling


class Uniform(ThompsonSampling[BanditSection]):
    def scores(
        self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray, plays: np.ndarray, in_flight: np.ndarray
    ) -> np.ndarray:
        return rng.random(alpha.shape)


policy = Uniform
