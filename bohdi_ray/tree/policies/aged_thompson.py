"""Thompson sampling whose beliefs age once per new weights of the target: ours.

The idea of discounting old evidence is that of Raj and Kalyani (2017), arXiv 1707.09727 (`discounted_thompson.py`), and
of Garivier and Moulines (2011), "On Upper-Confidence Bound Policies for Switching Bandit Problems", ALT (D-UCB). They
discount per play because changes may come at any time. Here a reward rate can change only where the target's weights
do, and that moment is known, so evidence keeps its full weight in between and fades then, visited or not.
"""

from __future__ import annotations

from bohdi_ray.config.kinds.bandits import AgedThompsonBandit
from bohdi_ray.tree.knowledge_tree import Arms
from bohdi_ray.tree.policies.thompson import ThompsonSampling, fade


class AgedThompson(ThompsonSampling[AgedThompsonBandit]):
    ages = True

    def age(self, arms: Arms) -> None:
        fade(arms, self.config.discount)


policy = AgedThompson
