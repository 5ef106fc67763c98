"""What the boundary of a round decides: its training rows, and which domains are reborn (method, sections 6 and 7).

Called by the manager's `close_round`, once per round, when all its credit is committed. Reads the state only.
"""

from __future__ import annotations

import math

from bohdi_ray.randomness import generator
from bohdi_ray.tree.bandit import draw_samples
from bohdi_ray.tree.journal import Reborn
from bohdi_ray.tree.state import TreeState


def draw_rows(state: TreeState) -> tuple[str, ...]:
    """Sample ids of the round's E batches of B_e rows, each batch from a generator of its own."""
    config, rows = state.config, []
    for step in range(config.enlightenment.steps):
        rng = generator(config.seed, state.round, step, "rows")
        rows += draw_samples(state.tree, state.policy, rng, config.enlightenment.rows_per_step)
    return tuple(rows)


def rebirths(state: TreeState) -> list[Reborn]:
    """One event per domain whose full window shows a change, by path."""
    events = []
    for node in state.full_windows:
        found = state.policy.on_introspection(*node.posterior, node.window)
        if found is not None:
            alpha, beta, statistic, p_value = found
            # JSON has no infinity.
            events.append(Reborn(node.path, alpha, beta, statistic if math.isfinite(statistic) else None, p_value))
    return sorted(events, key=lambda event: event.path)
