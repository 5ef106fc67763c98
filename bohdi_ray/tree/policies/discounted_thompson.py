"""Discounted Thompson sampling: whenever one child of a node is credited, the evidence about all its children fades.

Raj and Kalyani (2017), "Taming Non-stationary Bandits: A Bayesian Approach", arXiv 1707.09727, Algorithm 1 (dTS):
S <- gamma S + r, F <- gamma F + 1 - r for the arm played, S <- gamma S, F <- gamma F for the others, and draws from
Beta(S + 1, F + 1). Departures: a node's time is the number of credits there, so a domain that nobody visits keeps its
beliefs; a batch of credits fades once per credit, in ticket order; `unk` does not fade, for its posterior is about
finding names, which no new weights of the target change.
"""

from __future__ import annotations

from bohdi_ray.config.kinds.bandits import DiscountedThompsonBandit
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.thompson import ThompsonSampling, fade


class DiscountedThompson(ThompsonSampling[DiscountedThompsonBandit]):
    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        fade(arms, self.config.discount)
        super().credit(arms, arm, reward)


policy = DiscountedThompson
