"""The winner of a question: by random draws of the judge, and its probability in closed form (up to a one-dimensional
quadrature).

Contestants are numbered: the sources first, the target last.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from bohdi_ray.studies.simulation.world_spec import JudgeSpec

NODES = 32  # of the quadrature; win probabilities are then good to 1e-6 for up to eight contestants


def _bonuses(spec: JudgeSpec, num_models: int) -> np.ndarray:
    """The bonus added to each contestant's quality in each equally likely case, shape [cases, num_models]."""
    first = [num_models - 1] if spec.order == "target_first" else range(num_models)
    if spec.first_slot_bonus == 0:
        first = [num_models - 1]
    leaders = range(num_models - 1) if spec.self_preference else [0]
    cases = np.zeros((len(first), len(leaders), num_models))
    for i, slot in enumerate(first):
        for j, leader in enumerate(leaders):
            cases[i, j, slot] += spec.first_slot_bonus
            cases[i, j, leader] += spec.self_preference
    return cases.reshape(-1, num_models)


@lru_cache(1)
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for means over a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return nodes, weights / math.sqrt(2 * math.pi)


def win_probabilities(skills: np.ndarray, noise: float, spec: JudgeSpec) -> np.ndarray:
    """Probability that each contestant is named best, shape [models, L]; `skills` has the same shape."""
    from scipy.special import ndtr

    num_models = len(skills)
    if num_models == 1:
        return np.ones_like(skills)
    nodes, weights = _quadrature()
    spread = math.hypot(noise, spec.noise)
    bonuses = _bonuses(spec, num_models)
    perceived = (skills[None] + bonuses[:, :, None]) / spread  # [cases, models, L]
    wins = np.empty(skills.shape)
    for m in range(num_models):
        ahead = perceived[:, m : m + 1] - np.delete(perceived, m, axis=1)
        below = ndtr(ahead[..., None] + nodes).prod(axis=1)  # [cases, L, nodes]
        wins[m] = (below @ weights).mean(axis=0)
    return (1 - spec.error_rate) * wins + spec.error_rate / num_models


def loss_probability(sources: np.ndarray, target: np.ndarray, noise: float, spec: JudgeSpec) -> np.ndarray:
    """Probability of reward 1 (the target loses) in every leaf, shape [L]."""
    from scipy.special import ndtr

    nodes, weights = _quadrature()
    spread = math.hypot(noise, spec.noise)
    bonuses = _bonuses(spec, len(sources) + 1) / spread
    ahead = (target - sources) / spread  # [K, L]
    lead = bonuses[:, -1:] - bonuses[:, :-1]  # [cases, K]
    below = ndtr(ahead[None, :, :, None] + lead[:, :, None, None] + nodes).prod(axis=1)
    wins = (below @ weights).mean(axis=0)
    return 1 - (1 - spec.error_rate) * wins - spec.error_rate / (len(sources) + 1)


class JudgeDraws:
    """All random numbers for the answers to the tickets of one step, drawn ahead so that policies share them."""

    def __init__(self, rng: np.random.Generator, num_tickets: int, num_models: int):
        self.luck = rng.standard_normal((num_tickets, num_models))
        self.perception = rng.standard_normal((num_tickets, num_models))
        self.leader = rng.integers(num_models - 1, size=num_tickets)
        self.first = rng.integers(num_models, size=num_tickets)
        self.failure = rng.random(num_tickets)
        self.error = rng.random(num_tickets)
        self.guess = rng.integers(num_models, size=num_tickets)

    def winners(self, skills: np.ndarray, noise: float, spec: JudgeSpec) -> np.ndarray:
        """The winning contestant of each ticket, shape [tickets]; `skills` is [tickets, models]."""
        tickets = np.arange(len(skills))
        perceived = skills + noise * self.luck + spec.noise * self.perception
        first = np.full_like(self.first, skills.shape[1] - 1) if spec.order == "target_first" else self.first
        perceived[tickets, first] += spec.first_slot_bonus
        perceived[tickets, self.leader] += spec.self_preference
        return np.where(self.error < spec.error_rate, self.guess, perceived.argmax(axis=1))
