"""Dynamic Thompson sampling: a domain's evidence counts as `bandit.horizon` rewards at most; a new one thins the old.

Gupta, Granmo and Agrawala (2011), "Thompson Sampling for Dynamic Multi-armed Bandits", ICMLA, 484-489,
doi 10.1109/ICMLA.2011.144: while alpha + beta < C the usual update, after that (alpha + r) C / (C + 1) and
(beta + 1 - r) C / (C + 1). Departures: only the evidence is thinned, not the prior Beta(1, 1), so that no posterior
falls below it and C counts rewards; the new weights of a target, which may change the rates, do nothing by themselves.
"""

from __future__ import annotations

from bohdi_ray.config.kinds.bandits import DynamicThompsonBandit
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.thompson import ThompsonSampling


class DynamicThompson(ThompsonSampling[DynamicThompsonBandit]):
    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        num_wins = arms.alpha[arm] - 1 + reward
        num_losses = arms.beta[arm] - 1 + 1 - reward
        share = min(1.0, self.config.horizon / (num_wins + num_losses))
        arms.alpha[arm], arms.beta[arm] = 1 + share * num_wins, 1 + share * num_losses


policy = DynamicThompson
