"""Nodes, the bundles that must fit on them, and the free resources while bundles are placed. Pure.

Used by placement.py, which plans the placement of a whole run, and by the driver's pools, which place one engine at a
time on the resources that are free at that moment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

# What the small actors and tasks reserve; Ray Data needs a share of a CPU for each rank's reader.
SMALL_CPUS = 0.01
SLACK = 1e-6  # Ray counts in ten-thousandths
# By Ray's name of a card, where the name settles how much memory it has at least.
GPU_MEMORY_GB = {
    "B200": 180,
    "H200": 141,
    "H100": 80,
    "A100-80G": 80,
    "A100-40G": 40,
    "L40S": 48,
    "A10G": 24,
    "L4": 24,
    "T4": 16,
}
NODE_ID = "ray.io/node-id"  # the label that every node has
_SET = re.compile(r"(!?)in\((.*)\)")


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster, with the resources that Ray counts."""

    name: str
    num_cpus: float
    num_gpus: int = 0
    memory_gb: float | None = None  # None: not known
    gpu_name: str | None = None
    gpu_memory_gb: float | None = None  # of one card; None: not known
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)  # custom ones

    @property
    def card_gb(self) -> float | None:
        """Memory of one GPU, GB, if it is given or known from Ray's name of the GPU."""
        if self.gpu_memory_gb is not None or self.gpu_name is None:
            return self.gpu_memory_gb
        return GPU_MEMORY_GB.get(self.gpu_name)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Resources that must fit on one node."""

    who: str  # "trainer worker 1 of 4"
    owner: str  # "trainer" or a model's name
    num_cpus: float
    num_gpus: float = 0
    memory_gb: float = 0
    labels: Mapping[str, str] = field(default_factory=dict)  # the node's, as Ray's label selectors are written
    resources: Mapping[str, float] = field(default_factory=dict)  # custom ones

    def __str__(self) -> str:
        parts = [f"{self.num_gpus:g} GPU" if self.num_gpus else "", f"{self.num_cpus:g} CPU" if self.num_cpus else ""]
        parts.append(f"{self.memory_gb:g} GB of memory" if self.memory_gb else "")
        parts += [f"{amount:g} {name}" for name, amount in sorted(self.resources.items()) if amount]
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        return (" + ".join(part for part in parts if part) or "nothing") + (f" with {wanted}" if wanted else "")


@dataclass(slots=True)
class Free:
    """The free resources of a node while bundles are placed. GPUs are counted one by one, because a share must fit on
    one GPU."""

    node: Node
    cpus: float = 0
    cards: list[float] = field(default_factory=list)
    memory_gb: float = 0
    resources: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def whole(node: Node) -> Free:
        """All resources of a node."""
        memory_gb = float("inf") if node.memory_gb is None else node.memory_gb
        return Free(node, node.num_cpus, [1.0] * node.num_gpus, memory_gb, dict(node.resources))

    @staticmethod
    def rest(node: Node, available: Mapping[str, float]) -> Free:
        """The resources that Ray reports as available on a node. Ray reports only the sum over the GPUs, so a remaining
        share is assumed to be on one GPU; Ray itself decides in the end."""
        gpus = available.get("GPU", 0)
        share = gpus - int(gpus + SLACK)
        cards = [1.0] * int(gpus + SLACK) + ([share] if share > SLACK else [])
        resources = {name: available.get(name, 0) for name in node.resources}
        memory_gb = float("inf") if node.memory_gb is None else available.get("memory", 0) / 1e9
        return Free(node, available.get("CPU", 0), cards, memory_gb, resources)

    def copy(self) -> Free:
        return Free(self.node, self.cpus, list(self.cards), self.memory_gb, dict(self.resources))

    def _cards_for(self, num_gpus: float) -> list[int] | None:
        """The GPUs that a bundle would take: whole ones, or the fullest one with capacity for a share."""
        if num_gpus < 1:
            fitting = [i for i, left in enumerate(self.cards) if left >= num_gpus - SLACK]
            return [min(fitting, key=lambda i: self.cards[i])] if fitting else None
        whole = [i for i, left in enumerate(self.cards) if left > 1 - SLACK]
        return whole[: round(num_gpus)] if len(whole) >= num_gpus else None

    def fits(self, bundle: Bundle) -> bool:
        if not matches(self.node.labels, bundle.labels):
            return False
        enough = self.cpus >= bundle.num_cpus - SLACK and self.memory_gb >= bundle.memory_gb - SLACK
        enough = enough and all(self.resources.get(name, 0) >= n - SLACK for name, n in bundle.resources.items())
        return enough and (bundle.num_gpus == 0 or self._cards_for(bundle.num_gpus) is not None)

    def take(self, bundle: Bundle) -> tuple[int, ...]:
        """Takes the bundle's resources; returns the indices of its GPUs."""
        self.cpus -= bundle.num_cpus
        self.memory_gb -= bundle.memory_gb
        for name, amount in bundle.resources.items():
            self.resources[name] = self.resources.get(name, 0) - amount
        if not bundle.num_gpus:
            return ()
        cards = self._cards_for(bundle.num_gpus)
        assert cards is not None, "take() comes after fits()"
        for i in cards:
            self.cards[i] -= min(1.0, bundle.num_gpus)
        return tuple(cards)

    def lacks(self, bundle: Bundle) -> str:
        """The node's resources that matter to the bundle, as text for people."""
        missing = {key: value for key, value in bundle.labels.items() if not matches(self.node.labels, {key: value})}
        if missing:
            has = ", ".join(f"{key}={self.node.labels.get(key, 'not set')}" for key in sorted(missing))
            return f"{self.node.name}: {has}"
        custom = "".join(f", {self.resources.get(name, 0):g} {name}" for name in sorted(bundle.resources))
        return f"{self}{custom}"

    def __str__(self) -> str:
        memory = "" if self.memory_gb == float("inf") else f", {self.memory_gb:g} GB"
        return f"{self.node.name}: {sum(self.cards):g} GPU, {round(self.cpus, 2):g} CPU{memory}"


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node's labels meet a label selector, by Ray's rules: `a`, `!a`, `in(a,b)`, `!in(a,b)`. A label that is
    not set meets only the negative ones."""

    def meets(value: str | None, wanted: str) -> bool:
        if one_of := _SET.fullmatch(wanted):
            names = [name.strip() for name in one_of[2].split(",")]
            return (value in names) != bool(one_of[1])
        return value != wanted[1:] if wanted.startswith("!") else value == wanted

    return all(meets(labels.get(key), wanted) for key, wanted in selector.items())


def best_node(bundle: Bundle, free: Sequence[Free], beside: Collection[str]) -> Free | None:
    """The node for one bundle, or None. Deterministic.

    Bundles of one owner share a node if possible (`beside`: the nodes of its other bundles). A GPU bundle goes to the
    node with the fewest free GPUs that suffice, to avoid fragmentation; bundles without GPUs prefer nodes without GPUs.
    """
    fitting = [node for node in free if node.fits(bundle)]
    return min(fitting, key=lambda node: (node.node.name not in beside, sum(node.cards), -node.cpus), default=None)


@dataclass(frozen=True, slots=True)
class Sit:
    """There is capacity now: the name of the node of every bundle."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no capacity on the current nodes. With `ask` the caller may request more nodes; otherwise the trainer
    also waits, and has priority. `free` describes the free resources for people."""

    ask: bool
    free: tuple[str, ...]


def admit(bundles: Sequence[Bundle], free: Sequence[Free], owed: Sequence[Bundle]) -> Sit | Wait:
    """Whether an engine may be placed now, next to the bundles `owed` to the trainer, which it does not hold at the
    moment.

    The plan places the trainer's bundles first, and an engine gets only the remaining capacity. While the trainer's
    bundles do not fit, no engine is placed and none requests nodes. So the rule also holds while Ray Train restarts its
    workers: it releases its placement group, perhaps one bundle after another, and requests it again.
    """
    left = [node.copy() for node in free]
    if _seated(owed, left) is None:
        return Wait(False, tuple(node.lacks(bundles[0]) for node in free))
    before = [node.copy() for node in left]
    nodes = _seated(bundles, left)
    if nodes is not None:
        return Sit(nodes)
    first = next(bundle for bundle in bundles if not any(node.fits(bundle) for node in left))
    return Wait(True, tuple(node.lacks(first) for node in before))


def _seated(bundles: Sequence[Bundle], free: Sequence[Free]) -> tuple[str, ...] | None:
    """The nodes of all bundles, whose resources are taken from `free`; None as soon as one does not fit."""
    names: list[str] = []
    for bundle in bundles:
        node = best_node(bundle, free, names)
        if node is None:
            return None
        node.take(bundle)
        names.append(node.node.name)
    return tuple(names)
