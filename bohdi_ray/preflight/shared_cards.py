"""Memory with `placement: colocate`: the use of each GPU while harvesting and while training, and of main memory. Pure.

Called by `bohdi plan` and the preflight. Estimates, with estimate.py's formulas.

    a card, harvest's turn    sum of the engines' gpu_memory_utilization * card + a resting worker's overhead
    a card, training's turn   the worker awake + the overhead of each engine, which stays when it sleeps
    a node                    weights of its engines + weights and optimizer of its workers
                              (vLLM keeps the pinned memory that an engine slept in for its next sleep)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.estimate import (
    ENGINE_OVERHEAD_GB,
    WORKER_OVERHEAD_GB,
    ModelSize,
    estimates,
    resting_gb,
    weights_gb,
)
from bohdi_ray.placement.placement import TRAINER, place


@dataclass(slots=True)
class SharedCard:
    """One GPU. Amounts in GB; None: not known."""

    utilization: float = 0.0  # sum over its engines
    num_engines: int = 0
    num_workers: int = 0

    def harvest_gb(self, card_gb: float) -> float:
        return self.utilization * card_gb + self.num_workers * WORKER_OVERHEAD_GB["gpu"]

    def training_gb(self, worker_gb: float | None) -> float | None:
        asleep = self.num_engines * ENGINE_OVERHEAD_GB["gpu"]
        return None if worker_gb is None else asleep + self.num_workers * worker_gb


@dataclass(slots=True)
class SharedNode:
    """One node with GPUs."""

    node: Node
    cards: dict[int, SharedCard] = field(default_factory=lambda: defaultdict(SharedCard))
    asleep_gb: float | None = 0.0  # None: some model's size is not known


def shared_nodes(
    config: FusionConfig, nodes: Sequence[Node], sizes: dict[str, ModelSize | None]
) -> dict[str, SharedNode]:
    """Nodes on which harvest and training take turns, by name. GPU counts must be resolved."""
    found = {node.name: SharedNode(node) for node in nodes}
    for placed in place(config, nodes).placed:
        if not placed.cards:
            continue
        at, owner = found[placed.node], placed.bundle.owner
        model = config.target if owner == TRAINER else config.model(owner)
        assert isinstance(model, VllmModel)
        card, size = at.cards[placed.cards[0]], sizes.get(model.name)
        if owner == TRAINER:
            card.num_workers += 1
        else:
            card.num_engines += 1
            card.utilization += model.engine.gpu_memory_utilization
        if size is None or at.asleep_gb is None:
            at.asleep_gb = None
        else:
            at.asleep_gb += resting_gb(config.training, size) if owner == TRAINER else weights_gb(model, size)
    return {name: at for name, at in found.items() if at.cards}


def sharing_errors(
    config: FusionConfig, nodes: Sequence[Node], sizes: dict[str, ModelSize | None]
) -> Iterator[ConfigError]:
    """Errors for GPUs and nodes that are known to have too little memory for harvest or training."""
    for name, at in shared_nodes(config, nodes, sizes).items():
        card_gb, there = at.node.card_gb, at.node.memory_gb
        fullest = max(at.cards.values(), key=lambda card: card.utilization)
        if card_gb is not None and fullest.harvest_gb(card_gb) > card_gb:
            rule = f"the engines of a card of {name} may take {fullest.utilization:.0%} of its {card_gb:g} GB, and the "
            rule += f"resting trainer keeps about {WORKER_OVERHEAD_GB['gpu']:g} GB"
            most = 1 - fullest.num_workers * WORKER_OVERHEAD_GB["gpu"] / card_gb
            remedy = f"Lower it, for these engines together to {max(most, 0):.2f} at most."
            value = round(fullest.utilization, 4)
            yield ConfigError("engine.gpu_memory_utilization", value, rule, remedy)
        if there is not None and at.asleep_gb is not None and at.asleep_gb > there:
            rule = f"what sleeps on {name} needs {at.asleep_gb:.1f} GB of main memory and there are {there:g} GB"
            remedy = "Use smaller models, more train workers with ZeRO, a larger node, or placement: separate."
            yield ConfigError("placement", config.placement, rule, remedy)


def sharing_lines(config: FusionConfig, nodes: Sequence[Node], sizes: dict[str, ModelSize | None]) -> Iterator[str]:
    """The use of every GPU and node, as text for people."""
    worker_gb = estimates(config, {**{m.name: None for m in config.sources}, **sizes}, None)[-1].gb
    for name, at in shared_nodes(config, nodes, sizes).items():
        for number, card in sorted(at.cards.items()):
            card_gb, training = at.node.card_gb, card.training_gb(worker_gb)
            harvest = f"{card.utilization:.0%} by its engines"
            if card_gb is not None:
                harvest = f"{card.harvest_gb(card_gb):.1f} of {card_gb:g} GB"
            needs = "not known" if training is None else f"about {training:.1f} GB"
            yield f"card {number + 1} of {name}: harvest {harvest}; training {needs}"
        asleep = "not known" if at.asleep_gb is None else f"{at.asleep_gb:.1f} GB"
        there = "" if at.node.memory_gb is None else f" of {at.node.memory_gb:g} GB"
        yield f"asleep on {name}: {asleep}{there} of main memory"
