"""The bandit: the policy of a configuration, and the batched walks that choose training rows.

What a policy must answer is in `policies/policy.py`; the walks of a harvest are in `walks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bohdi_ray.config import BanditConfig
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.policies.aged_thompson import AgedThompson
from bohdi_ray.tree.policies.corrected_swblrt import CorrectedSwblrt
from bohdi_ray.tree.policies.discounted_thompson import DiscountedThompson
from bohdi_ray.tree.policies.dynabranches import DynaBranches
from bohdi_ray.tree.policies.dynamic_thompson import DynamicThompson
from bohdi_ray.tree.policies.glr_thompson import GlrThompson
from bohdi_ray.tree.policies.greedy import Greedy
from bohdi_ray.tree.policies.policy import Policy
from bohdi_ray.tree.policies.sliding_window_thompson import SlidingWindowThompson
from bohdi_ray.tree.policies.uniform import Uniform

POLICIES: dict[str, Callable[[BanditConfig], Policy]] = {
    "dynabranches": DynaBranches,
    "uniform": Uniform,
    "greedy": Greedy,
    "discounted_thompson": DiscountedThompson,
    "dynamic_thompson": DynamicThompson,
    "sliding_window_thompson": SlidingWindowThompson,
    "aged_thompson": AgedThompson,
    "glr_thompson": GlrThompson,
    "corrected_swblrt": CorrectedSwblrt,
}


def make_policy(config: BanditConfig) -> Policy:
    return POLICIES[config.policy](config)


def draw_samples(tree: KnowledgeTree, policy: Policy, rng: np.random.Generator, num_rows: int) -> list[str]:
    """Sample ids of `num_rows` training rows, drawn with replacement (method, section 7).

    Each row is a walk over existing nodes with trainable samples below, then a uniform draw among its leaf's. All rows
    descend together, a level at a time: one call of the policy scores the arms of all nodes the rows stand at.
    Returns nothing when the tree has no trainable sample.
    """
    if tree.root.num_trainable == 0:
        return []
    nodes = [tree.root] * num_rows
    for _ in range(tree.depth):
        nodes = _descend(nodes, policy, rng)
    counts = np.fromiter((node.num_trainable for node in nodes), np.int64, num_rows)
    picks = rng.integers(0, counts).tolist()
    return [node.trainable_id(pick) for node, pick in zip(nodes, picks, strict=True)]


def _descend(nodes: Sequence[Node], policy: Policy, rng: np.random.Generator) -> list[Node]:
    alphas, betas, lives, sizes = [], [], [], []
    for node in nodes:
        alpha, beta, live = node.arms.trainable_arms()
        alphas.append(alpha)
        betas.append(beta)
        lives.append(live)
        sizes.append(len(alpha))
    scores = policy.scores(rng, np.concatenate(alphas), np.concatenate(betas))
    starts = np.cumsum(sizes, dtype=np.intp) - np.asarray(sizes, np.intp)
    best = np.maximum.reduceat(scores, starts)
    hits = np.flatnonzero(scores == np.repeat(best, sizes))
    first = hits[np.searchsorted(hits, starts)] - starts  # the first best arm of each node
    return [
        node.arms.children[pick if live is None else live[pick]]
        for node, live, pick in zip(nodes, lives, first.tolist(), strict=True)
    ]
