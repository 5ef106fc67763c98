"""One world: a domain tree with the skills of sources and target, drawn from a `WorldSpec` and a seed.

All arrays over leaves have shape [L] or [K, L] (K sources), in the tree's order, depth first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bohdi_ray.randomness import generator
from bohdi_ray.records import DomainPath, Proposals, SproutRequest
from bohdi_ray.studies.simulation.world_spec import WorldSpec

CONSONANTS, VOWELS = "bdfgklmnprstvxz", "aeiou"
SYNONYMS = ("Basics", "Methods", "Practice")


@dataclass
class Domain:
    path: DomainPath
    children: list[Domain] = field(default_factory=list)
    leaves: range = range(0)  # numbers of the leaves below; of a leaf: itself
    log_popularity: float = 0.0

    @property
    def name(self) -> str:
        return self.path[-1]


class World:
    def __init__(self, spec: WorldSpec, seed: int, num_rounds: int):
        """`num_rounds`: number of rounds for which shifts are computed."""
        self.spec, self.seed, self.num_rounds = spec, seed, num_rounds
        self.root = _draw_tree(spec, seed)
        self.by_path = {domain.path: domain for domain in _all(self.root)}
        self.leaves = [domain for domain in _all(self.root) if not domain.children]
        self.num_leaves = len(self.leaves)
        self.levels = [
            [domain for domain in _all(self.root) if len(domain.path) == level]
            for level in range(len(spec.branching) + 1)
        ]
        self.relation = self._relation()
        sources = self._source_skills()
        self.start, self.ceiling = self._target(sources)
        self.ignorant = sources.max(axis=0) - spec.learning.ignorance
        self.source_skill, self.target_shift = self._shifts(sources)
        self._leaf_of: dict[DomainPath, int] = {domain.path: n for n, domain in enumerate(self.leaves)}

    def leaf(self, path: DomainPath) -> int:
        """The index of the leaf that a path of the tree stands for, synonyms included."""
        number = self._leaf_of.get(path)
        if number is None:
            word, _, tail = path[-1].rpartition(" ")
            assert tail in SYNONYMS, path
            number = self._leaf_of[path] = self._leaf_of[(*path[:-1], word)]
        return number

    def sources_in(self, round: int) -> np.ndarray:
        """Skills of the sources in a round, shape [K, L]."""
        return self.source_skill[min(round, self.num_rounds)]

    def propose(self, request: SproutRequest, num_names: int) -> Proposals:
        """The names that all sources propose, as a function of the request alone: popular children first, some of them
        unusable."""
        discovery, here = self.spec.discovery, self.by_path[request.path]
        rng = generator(self.seed, "propose", request.request_id)
        shape = (len(self.spec.sources), len(here.children))
        # The order of keys log w + Gumbel is a draw without replacement with weights w.
        keys = np.array([child.log_popularity for child in here.children]) + rng.gumbel(size=shape)
        orders = np.argsort(-keys, axis=1)
        luck = rng.random((shape[0], num_names))
        words = rng.integers(len(SYNONYMS), size=(shape[0], num_names))
        names, num_invalid = [], 0
        synonyms = discovery.invalid_rate + (discovery.synonym_rate if request.leaf else 0.0)
        for order, lucks, picks in zip(orders.tolist(), luck.tolist(), words.tolist(), strict=True):
            for i in range(num_names):
                name = here.children[order[i % len(order)]].name
                if lucks[i] < discovery.invalid_rate:
                    num_invalid += 1
                elif lucks[i] < synonyms:
                    names.append(f"{name} {SYNONYMS[picks[i]]}")
                else:
                    names.append(name)
        return Proposals(request.request_id, tuple(names), num_invalid, 0)

    # How the arrays are drawn.

    def _relation(self) -> np.ndarray:
        """[L, L]: how strongly a row of leaf i acts in leaf j; 1 on the diagonal."""
        learning = self.spec.learning
        paths = [domain.path for domain in self.leaves]
        relation = np.eye(len(paths))
        for i, a in enumerate(paths):
            for j, b in enumerate(paths):
                if i != j and len(a) > 1 and a[:1] == b[:1]:
                    relation[i, j] = learning.to_siblings if a[:-1] == b[:-1] else learning.to_cousins
        return relation

    def _source_skills(self) -> np.ndarray:
        rng = generator(self.seed, "sources")
        branch = np.zeros(self.num_leaves, int)
        for number, top in enumerate(self.root.children):
            branch[top.leaves.start : top.leaves.stop] = number
        return np.array(
            [
                s.level
                + s.branch_spread * rng.standard_normal(len(self.root.children))[branch]
                + s.leaf_spread * rng.standard_normal(self.num_leaves)
                for s in self.spec.sources
            ]
        )

    def _target(self, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(skill before any training, ceiling), each [L]."""
        spec = self.spec
        best = sources.max(axis=0)
        gap = np.full(self.num_leaves, spec.gap)
        learnable = np.full(self.num_leaves, spec.learning.learnable)
        rng = generator(self.seed, "regions")
        taken: set[int] = set()
        for region in spec.regions:
            for leaf in self._drawn_leaves(rng, region.level, region.share, taken):
                taken.add(leaf)
                gap[leaf] = spec.gap if region.gap is None else region.gap
                if region.learnable is not None:
                    learnable[leaf] = region.learnable
        gap += spec.gap_spread * generator(self.seed, "gaps").standard_normal(self.num_leaves)
        start = best - gap
        return start, start + learnable * np.maximum(best + spec.learning.headroom - start, 0)

    def _shifts(self, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source skills by round [R + 1, K, L], and the target's gain without training at each round [R + 1, L]."""
        skill = np.repeat(sources[None], self.num_rounds + 1, axis=0)
        gains = np.zeros((self.num_rounds + 1, self.num_leaves))
        rng = generator(self.seed, "shifts")
        for shift in self.spec.shifts:
            leaves = self._drawn_leaves(rng, shift.level, shift.share, set())
            for part in range(shift.over_rounds):
                first = shift.round + part
                if first > self.num_rounds:
                    break
                if shift.who == "target":
                    gains[first, leaves] += shift.by / shift.over_rounds
                else:
                    skill[first:, 0, leaves] += shift.by / shift.over_rounds
        return skill, gains

    def _drawn_leaves(self, rng: np.random.Generator, level: int, share: float, taken: set[int]) -> list[int]:
        free = [domain for domain in self.levels[level] if not taken.intersection(domain.leaves)]
        number = min(len(free), max(1, round(share * len(self.levels[level]))))
        picks = rng.permutation(len(free))[:number]
        return [leaf for pick in sorted(picks.tolist()) for leaf in free[pick].leaves]


def _all(domain: Domain) -> Iterator[Domain]:
    yield domain
    for child in domain.children:
        yield from _all(child)


def _name(number: int) -> str:
    """A word of three syllables; different for every number below 400,000."""
    word = ""
    for _ in range(3):
        number, syllable = divmod(number, len(CONSONANTS) * len(VOWELS))
        word += CONSONANTS[syllable // len(VOWELS)] + VOWELS[syllable % len(VOWELS)]
    return word.capitalize()


def _draw_tree(spec: WorldSpec, seed: int) -> Domain:
    rng = generator(seed, "tree")
    # 7919 is prime, so stepping by it gives every name once and neighbours look different.
    names = (_name((number * 7919 + 4321) % 75**3) for number in range(75**3))
    num_leaves = 0

    def grow(path: DomainPath) -> Domain:
        nonlocal num_leaves
        domain = Domain(path, log_popularity=float(spec.discovery.popularity_spread * rng.standard_normal()))
        first = num_leaves
        if len(path) == len(spec.branching):
            num_leaves += 1
        else:
            mean = spec.branching[len(path)]
            low = max(1, round(mean * (1 - spec.branching_spread)))
            high = max(low, round(mean * (1 + spec.branching_spread)))
            domain.children = [grow((*path, next(names))) for _ in range(int(rng.integers(low, high + 1)))]
        domain.leaves = range(first, num_leaves)
        return domain

    return grow(())
