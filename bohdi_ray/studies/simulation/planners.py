"""Allocators that exist in simulations only: an oracle, and fixed shares after a pilot.

Both write their desired shares of walks and rows into the arms' alpha, before each step and before the rows of a round;
`Race` then picks arms in proportion. They read data that a policy of a real fusion never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bohdi_ray.studies.simulation.fusion import SimulatedFusion
from bohdi_ray.studies.simulation.judge import win_probabilities
from bohdi_ray.studies.simulation.target import TARGET
from bohdi_ray.studies.simulation.world import Domain, World
from bohdi_ray.tree.knowledge_tree import Arms, Node
from bohdi_ray.tree.policies.policy import Change

SCALE = 1e9  # weights are so large that the one an election adds to `unk` does not count


class Race:
    """Arms win in proportion to their alpha: each gets an exponential time with that rate, the earliest wins."""

    deterministic = ages = False
    max_window, min_window = 20, 2**60

    def scores(
        self, rng: np.random.Generator, alpha: np.ndarray, beta: np.ndarray, plays: np.ndarray, in_flight: np.ndarray
    ) -> np.ndarray:
        return -rng.exponential(size=len(alpha)) / np.maximum(alpha, 1e-9)

    def credit(self, arms: Arms, arm: int, reward: int) -> None:
        return None

    def introspect(self, alpha: np.ndarray, beta: np.ndarray, windows: Sequence[bytes]) -> list[Change]:
        return []

    def age(self, arms: Arms) -> None:
        return None


@dataclass
class Places:
    """Relates the current tree to the world: the leaves to which walks can be sent."""

    leaf_nodes: dict[int, list[Node]] = field(default_factory=dict)  # by number of the world's leaf
    hidden: dict[Node, list[int]] = field(default_factory=dict)  # leaves below children that a node has not yet


def look(world: World, root: Node) -> Places:
    places = Places()

    def visit(node: Node, domain: Domain) -> None:
        known = {child.name: child for child in node.arms.children}
        hidden = [leaf for child in domain.children if child.name not in known for leaf in child.leaves]
        for child in node.arms.children:
            if child.arms is None:
                places.leaf_nodes.setdefault(world.leaf(child.path), []).append(child)
            else:
                visit(child, world.by_path[child.path])
        hidden = [leaf for leaf in hidden if leaf not in places.leaf_nodes]  # a synonym of it may be known
        if hidden:
            places.hidden[node] = hidden

    visit(root, world.root)
    return places


def write_shares(root: Node, leaves: dict[Node, float], unk: dict[Node, float]) -> None:
    """Sets every arm's alpha to the sum of the shares below it."""

    def visit(node: Node) -> float:
        below = (leaves.get(child, 0.0) if child.arms is None else visit(child) for child in node.arms.children)
        shares = [unk.get(node, 0.0), *below]
        node.arms.alpha[: len(shares)] = np.array(shares) * SCALE
        return sum(shares)

    visit(root)


class Oracle:
    """Knows all skills and how the target learns. It gives each walk, and each row, to the leaf where it raises the
    mean skill most, by water-filling with the learner's own equations in expectation. Looks one round ahead."""

    def __init__(self) -> None:
        self._cached: tuple[int, np.ndarray, np.ndarray] | None = None  # of a round

    def before_walks(self, fusion: SimulatedFusion) -> None:
        num_walks = fusion.num_walks_ahead()
        if num_walks == 0:
            return
        world, config = fusion.world, fusion.config
        places = look(world, fusion.manager.tree.root)
        taught, worth = self._expected(fusion)
        skill = fusion.target.skill.copy()
        rate = world.spec.learning.rate * config.rows_per_round / config.walks_per_round
        for leaf in fusion.leaves_of_round():
            skill += rate * worth[leaf] * world.relation[leaf] * np.maximum(taught - skill, 0)
        known = np.array(sorted(places.leaf_nodes), dtype=int)
        counts, pools = np.zeros(world.num_leaves), dict.fromkeys(places.hidden, 0)
        for _ in range(num_walks):
            gap = np.maximum(taught - skill, 0)
            value = (world.relation * gap).sum(axis=1) * worth
            best = known[value[known].argmax()] if len(known) else None
            most = value[best] if best is not None else -1.0
            pool = None
            for node, hidden in places.hidden.items():
                if pools[node] < len(hidden) and (mean := value[hidden].mean()) > most:
                    pool, most = node, mean
            if pool is not None:
                pools[pool] += 1
                hidden = places.hidden[pool]
                skill += rate * (worth[hidden, None] * world.relation[hidden]).mean(axis=0) * gap
            elif best is None:
                break  # fewer leaves than walks, and none is known yet
            else:
                counts[best] += 1
                skill += rate * worth[best] * world.relation[best] * gap
        shares = {node: counts[leaf] / len(nodes) for leaf, nodes in places.leaf_nodes.items() for node in nodes}
        write_shares(fusion.manager.tree.root, shares, {node: float(number) for node, number in pools.items()})

    def before_rows(self, fusion: SimulatedFusion) -> None:
        world, learning = fusion.world, fusion.world.spec.learning
        places = look(world, fusion.manager.tree.root)
        leaves = np.array([leaf for leaf in sorted(places.leaf_nodes) if fusion.by_leaf[leaf]], dtype=int)
        if not len(leaves):
            return
        # Per leaf: mean worth of a row, what its source rows teach there, and the share of these.
        worth, level, spill = (np.zeros(world.num_leaves) for _ in range(3))
        for leaf in leaves:
            samples = fusion.by_leaf[leaf]
            worths = np.array(
                [
                    learning.repeat_worth**s.times_trained * (learning.own_worth if s.author == TARGET else 1.0)
                    for s in samples
                ]
            )
            levels = np.array([s.skills[leaf] + learning.luck_taught * s.luck for s in samples])
            worth[leaf] = worths.mean()
            level[leaf] = (worths * np.minimum(levels, world.ceiling[leaf])).sum() / max(worths.sum(), 1e-12)
            spill[leaf] = worths[[s.author != TARGET for s in samples]].sum() / len(samples)
        taught, _ = self._expected(fusion)
        numbers = np.array([len(samples) for samples in fusion.by_leaf])
        others = world.relation - np.eye(world.num_leaves)
        skill, counts = fusion.target.skill.copy(), np.zeros(world.num_leaves)
        for _ in range(fusion.config.rows_per_round):
            gap = np.maximum(taught - skill, 0)
            value = worth * (level - skill) + spill * (others * gap).sum(axis=1)
            best = leaves[value[leaves].argmax()]
            if value[best] <= 0:
                break
            counts[best] += 1
            own = worth[best] * (level[best] - skill[best])
            skill += learning.rate * spill[best] * others[best] * gap
            skill[best] += learning.rate * own
            tired = learning.repeat_worth ** (1 / numbers[best])
            worth[best] *= tired
            spill[best] *= tired
        shares = {
            node: (counts[leaf] + 1e-6) * node.num_trainable / numbers[leaf]
            for leaf in leaves.tolist()
            for node in places.leaf_nodes[leaf]
        }
        write_shares(fusion.manager.tree.root, shares, {})

    def _expected(self, fusion: SimulatedFusion) -> tuple[np.ndarray, np.ndarray]:
        if self._cached is None or self._cached[0] != fusion.round:
            skill = fusion.trace.skills[fusion.version]
            self._cached = (fusion.round, *expected_rows(fusion.world, fusion.round, skill))
        return self._cached[1:]


def expected_rows(world: World, round: int, skill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean quality that a source's winning answer teaches, value of a new row relative to a source's answer), each
    [L]."""
    learning, sources = world.spec.learning, world.sources_in(round)
    wins = win_probabilities(np.vstack((sources, skill)), world.spec.noise, world.spec.judge)
    by_sources = wins[:-1].sum(axis=0)
    taught = (wins[:-1] * np.minimum(sources, world.ceiling)).sum(axis=0) / by_sources
    return taught, by_sources + learning.own_worth * wins[-1]


class FixedShares:
    """Uniform walks for some rounds, then permanent shares in proportion to the observed loss rates: nothing is
    discovered or measured any more."""

    def __init__(self, pilot_rounds: int):
        self.pilot_rounds = pilot_rounds
        self.shares: dict[Node, float] | None = None

    def before_walks(self, fusion: SimulatedFusion) -> None:
        if fusion.round < self.pilot_rounds:
            _even(fusion.manager.tree.root)
            return
        if self.shares is None:
            rewards: dict[Node, list[int]] = {}
            for credits in fusion.trace.credits:
                for credit in credits:
                    rewards.setdefault(credit.node, []).append(credit.reward)
            self.shares = {node: (sum(seen) + 1) / (len(seen) + 2) for node, seen in rewards.items()}
        write_shares(fusion.manager.tree.root, self.shares, {})

    def before_rows(self, fusion: SimulatedFusion) -> None:
        return None


def _even(node: Node) -> None:
    if node.arms is not None:
        node.arms.alpha[:] = 1.0
        for child in node.arms.children:
            _even(child)
