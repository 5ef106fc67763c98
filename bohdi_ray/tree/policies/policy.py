"""The interface of a bandit policy: how arms are compared, how rewards are applied, which domains have changed.

The tree's shape and the order of walks are not its concern. A policy object is stateless: all its data are in the tree,
(alpha, beta) per arm and `memory` per node, so that snapshots, digests and replay work for every policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bohdi_ray.tree.knowledge_tree import Arms


@dataclass(frozen=True, slots=True)
class Change:
    """A domain whose reward rate changed: its new posterior, and the evidence for the change."""

    index: int  # among the domains that `introspect` was given
    alpha: float
    beta: float
    statistic: float  # may be infinite
    p_value: float


class Policy(Protocol):
    deterministic: bool
    """Whether all walks of a step may go one way. Others draw, or look at `in_flight`: a step's walks see no reward of
    one another."""
    max_window: int
    """Rewards that a node's window holds at most."""
    min_window: int
    """Rewards a node's window must hold before `introspect` is asked about the node."""
    ages: bool
    """Whether `age` is to be called at all."""

    def scores(
        self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray, plays: np.ndarray, in_flight: np.ndarray
    ) -> np.ndarray:
        """One score per arm, same shape as `alpha`; the largest is followed.

        `alpha`, `beta`: posteriors, as `credit` left them; `plays`: rewards taken in so far, for `unk` elections held;
        `in_flight`: walks that went to the arm and whose reward is still to come (those of earlier steps that are not
        committed, and this step's before this one). A policy that draws random numbers uses `rng`, the walk's own
        generator.

        Arms of several nodes may come in one call, so an arm's score must depend on that arm alone.
        """
        ...

    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        """Applies one reward, 0 or 1, to `arms[arm]`, in place.

        May change `alpha` and `beta` of every arm but `unk` (index 0, which only elections change), and `memory`.
        """
        ...

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        """Which of n domains have changed. Called once, before a round with new target weights.

        `alpha`, `beta`: posteriors, shape [n]; `windows`: each domain's last rewards, one byte each, oldest first,
        between `min_window` and `max_window` many. All domains are given at once, so that a test can correct for their
        number.
        """
        ...

    def age(self, arms: Arms) -> None:
        """Called for every node above the leaves before a round with new target weights, before `introspect`."""
        ...
