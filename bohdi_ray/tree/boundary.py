"""Decisions at the end of a round: its training rows, and which domains are reborn (method, sections 6 and 7).

Called by the manager's `close_round`, once per round, when all its credit is committed. Reads the state only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bohdi_ray.randomness import generator
from bohdi_ray.records import DomainPath
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.policies.policy import Policy
from bohdi_ray.tree.record.journal import Reborn
from bohdi_ray.tree.state import TreeState


def draw_rows(state: TreeState) -> tuple[str, ...]:
    """Sample ids of the round's rows: E batches of B_e draws, each batch with its own generator or, with `each_once`,
    every trainable sample of the round once per epoch, each epoch in an order of its own."""
    config, rows = state.config, list[str]()
    if config.enlightenment.rows == "each_once":
        leaves = (node for node in state.tree.nodes() if node.arms is None)
        new = sorted(one for leaf in leaves for one in leaf.trainable_ids_of(state.round))
        for epoch in range(config.enlightenment.epochs):
            order = generator(config.seed, state.round, epoch, "each once").permutation(len(new))
            rows += [new[i] for i in order]
        return tuple(rows)
    for step in range(config.enlightenment.steps):
        rng = generator(config.seed, state.round, step, "rows")
        rows += draw_samples(state.tree, state.policy, rng, config.enlightenment.rows_per_step)
    return tuple(rows)


def draw_samples(tree: KnowledgeTree, policy: Policy, rng: np.random.Generator, num_rows: int) -> list[str]:
    """Sample ids of `num_rows` training rows, drawn with replacement (method, section 7).

    Each row is a walk over existing nodes with trainable samples below, then a uniform draw among the samples of its
    leaf. All rows descend together, a level at a time: one call of the policy scores the arms of all nodes the rows are
    at. Returns nothing when the tree has no trainable sample.
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
    alphas, betas, plays, lives, sizes = [], [], [], [], []
    for node in nodes:
        alpha, beta, played, live = node.arms.trainable_arms()
        alphas.append(alpha)
        betas.append(beta)
        plays.append(played)
        lives.append(live)
        sizes.append(len(alpha))
    nothing = np.zeros(sum(sizes), np.int64)  # no walk is under way at the end of a round
    scores = policy.scores(rng, np.concatenate(alphas), np.concatenate(betas), np.concatenate(plays), nothing)
    starts = np.cumsum(sizes, dtype=np.intp) - np.asarray(sizes, np.intp)
    best = np.maximum.reduceat(scores, starts)
    hits = np.flatnonzero(scores == np.repeat(best, sizes))
    first = hits[np.searchsorted(hits, starts)] - starts  # the first best arm of each node
    return [
        node.arms.children[pick if live is None else live[pick]]
        for node, live, pick in zip(nodes, lives, first.tolist(), strict=True)
    ]


def draw_leaves(state: TreeState, round: int, number: int) -> tuple[DomainPath, ...]:
    """Paths of `number` leaves, each drawn uniformly from all leaves; () if there are none. For
    `training.rehearsal`."""
    leaves = [node for node in state.tree.nodes() if node.arms is None]
    if not leaves:
        return ()
    rng = generator(state.config.seed, round, "replay")
    return tuple(leaves[i].path for i in rng.integers(len(leaves), size=number))


def rebirths(state: TreeState) -> list[Reborn]:
    """One event per domain whose reward rate has changed, by path."""
    nodes = sorted(state.testable, key=lambda node: node.path)
    posteriors = np.array([node.posterior for node in nodes]).reshape(-1, 2)
    changes = state.policy.introspect(posteriors[:, 0], posteriors[:, 1], [node.window for node in nodes])
    return [
        # JSON has no infinity.
        Reborn(nodes[c.index].path, c.alpha, c.beta, c.statistic if math.isfinite(c.statistic) else None, c.p_value)
        for c in sorted(changes, key=lambda change: change.index)
    ]
