"""The target as a learner: one skill per leaf, changed by training rows (docs/allocation.md, "The learner")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bohdi_ray.studies.simulation.world import World

TARGET = -1


@dataclass(slots=True)
class SimulatedSample:
    """A question's best answer."""

    leaf: int
    author: int  # number of the source, or TARGET
    skills: np.ndarray  # the author's when it answered, [L]
    luck: float  # of this answer, quality units
    times_trained: int = 0


class Target:
    def __init__(self, world: World):
        self.world = world
        self.skill = world.start.copy()
        self.untrained = world.start.copy()  # what it would be able to without any training
        self.rounds_trained = 0

    def train(self, rows: Iterable[SimulatedSample]) -> None:
        """Trains on one round's rows in order, then applies forgetting, then the round's shift."""
        learning, trained = self.world.spec.learning, set()
        for sample in rows:
            self._learn(sample)
            trained.add(sample.leaf)
        rested = np.ones(self.world.num_leaves, bool)
        rested[list(trained)] = False
        # Only what was learned is forgotten; a skill below the untrained one (bad rows) recovers the same way.
        self.skill -= learning.forgetting * rested * (self.skill - self.untrained)
        self.skill -= learning.overwriting * rested * np.maximum(self.skill - self.world.ignorant, 0)
        self.rounds_trained += 1
        gains = self.world.target_shift[min(self.rounds_trained, self.world.num_rounds)]
        self.skill = _raised(self.skill, gains, self.world.ceiling)
        self.untrained = _raised(self.untrained, gains, self.world.ceiling)

    def _learn(self, sample: SimulatedSample) -> None:
        learning, leaf = self.world.spec.learning, sample.leaf
        worth = learning.rate * learning.repeat_worth**sample.times_trained
        sample.times_trained += 1
        luck = learning.luck_taught * sample.luck
        if sample.author == TARGET:
            worth *= learning.own_worth
            taught = min(sample.skills[leaf] + luck, self.world.ceiling[leaf])
            self.skill[leaf] += worth * (taught - self.skill[leaf])
            return
        taught = np.minimum(sample.skills + luck, self.world.ceiling)
        distance = taught - self.skill
        # A worse answer does harm where it belongs; other leaves take only what helps.
        own = distance[leaf]
        np.maximum(distance, 0, out=distance)
        distance[leaf] = own
        self.skill += worth * self.world.relation[leaf] * distance


def _raised(skill: np.ndarray, gains: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return np.where(gains > 0, np.minimum(skill + gains, np.maximum(ceiling, skill)), skill + gains)
