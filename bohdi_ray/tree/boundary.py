"""What the boundary of a round decides: its training rows, and which domains are reborn (method, sections 6 and 7).

Called by the manager's `close_round`, once per round, when all its credit is committed. Reads the state only.
"""

from __future__ import annotations

import math

import numpy as np

from bohdi_ray.randomness import generator
from bohdi_ray.records import DomainPath
from bohdi_ray.tree.bandit import draw_samples
from bohdi_ray.tree.record.journal import Reborn
from bohdi_ray.tree.state import TreeState


def draw_rows(state: TreeState) -> tuple[str, ...]:
    """Sample ids of the round's rows: E batches of B_e draws, each batch from a generator of its own, or with
    `each_once` every trainable sample of the round once an epoch, each epoch in an order of its own."""
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


def draw_leaves(state: TreeState, round: int, number: int) -> tuple[DomainPath, ...]:
    """Paths of `number` leaves, each drawn from all alike; () while there are none. For `training.replay`."""
    leaves = [node for node in state.tree.nodes() if node.arms is None]
    if not leaves:
        return ()
    rng = generator(state.config.seed, round, "replay")
    return tuple(leaves[i].path for i in rng.integers(len(leaves), size=number))


def rebirths(state: TreeState) -> list[Reborn]:
    """One event per domain that has changed, by path."""
    nodes = sorted(state.testable, key=lambda node: node.path)
    posteriors = np.array([node.posterior for node in nodes]).reshape(-1, 2)
    changes = state.policy.introspect(posteriors[:, 0], posteriors[:, 1], [node.window for node in nodes])
    return [
        # JSON has no infinity.
        Reborn(nodes[c.index].path, c.alpha, c.beta, c.statistic if math.isfinite(c.statistic) else None, c.p_value)
        for c in sorted(changes, key=lambda change: change.index)
    ]
