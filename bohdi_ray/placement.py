"""Who sits where: a pure function of configuration and nodes, and an exact account of what does not fit.

Called by `bohdi plan` (nodes from a file or this machine) and before a run starts (nodes from Ray). Nothing is reserved
here: Ray places for real; this says beforehand whether it can. The trainer comes first, because its worker group is
taken down and built up again as one, then the target's engines, then the sources', the largest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError

# What the small actors and tasks reserve; Ray Data needs a share of a CPU for each rank's reader.
SMALL_CPUS = 0.01
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


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster, as Ray counts it."""

    name: str
    num_cpus: float
    num_gpus: int = 0
    memory_gb: float | None = None  # None: not known
    gpu_name: str | None = None
    gpu_memory_gb: float | None = None  # of one card; None: not known

    @property
    def card_gb(self) -> float | None:
        """Memory of one card, GB, as far as it is given or Ray's name for the card settles it."""
        if self.gpu_memory_gb is not None or self.gpu_name is None:
            return self.gpu_memory_gb
        return GPU_MEMORY_GB.get(self.gpu_name)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What has to find room on one node."""

    who: str  # "trainer worker 1 of 4"
    owner: str  # "trainer" or a model's name
    num_cpus: float
    num_gpus: float = 0
    memory_gb: float = 0

    def __str__(self) -> str:
        parts = [f"{self.num_gpus:g} GPU" if self.num_gpus else "", f"{self.num_cpus:g} CPU" if self.num_cpus else ""]
        parts.append(f"{self.memory_gb:g} GB of memory" if self.memory_gb else "")
        return " + ".join(part for part in parts if part) or "nothing"


@dataclass(frozen=True, slots=True)
class Seat:
    bundle: Bundle
    node: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """A bundle that finds no room, and what was free on each node when its turn came."""

    bundle: Bundle
    free: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.bundle.who} needs {self.bundle} on one node; free then: {'; '.join(self.free) or 'no node'}"


@dataclass(frozen=True, slots=True)
class Layout:
    seats: tuple[Seat, ...]
    misfits: tuple[Misfit, ...]

    def on(self, node: str) -> tuple[Bundle, ...]:
        """Everything that sits on one node."""
        return tuple(seat.bundle for seat in self.seats if seat.node == node)


@dataclass(slots=True)
class _Free:
    """What is left of a node while bundles are seated. Cards are counted one by one: a share must fit on one card."""

    node: Node
    cpus: float = 0
    cards: list[float] = field(default_factory=list)
    memory_gb: float = 0

    def __post_init__(self) -> None:
        self.cpus, self.cards = self.node.num_cpus, [1.0] * self.node.num_gpus
        self.memory_gb = float("inf") if self.node.memory_gb is None else self.node.memory_gb

    def _cards_for(self, num_gpus: float) -> list[int] | None:
        """The cards a bundle would take: whole ones, or the fullest one with room for a share."""
        if num_gpus < 1:
            fitting = [i for i, left in enumerate(self.cards) if left >= num_gpus - 1e-9]
            return [min(fitting, key=lambda i: self.cards[i])] if fitting else None
        whole = [i for i, left in enumerate(self.cards) if left == 1.0]
        return whole[: round(num_gpus)] if len(whole) >= num_gpus else None

    def fits(self, bundle: Bundle) -> bool:
        enough = self.cpus >= bundle.num_cpus - 1e-9 and self.memory_gb >= bundle.memory_gb - 1e-9
        return enough and (bundle.num_gpus == 0 or self._cards_for(bundle.num_gpus) is not None)

    def take(self, bundle: Bundle) -> None:
        self.cpus -= bundle.num_cpus
        self.memory_gb -= bundle.memory_gb
        if bundle.num_gpus:
            cards = self._cards_for(bundle.num_gpus)
            assert cards is not None, "take() comes after fits()"
            for i in cards:
                self.cards[i] -= min(1.0, bundle.num_gpus)

    def __str__(self) -> str:
        memory = "" if self.memory_gb == float("inf") else f", {self.memory_gb:g} GB"
        return f"{self.node.name}: {sum(self.cards):g} GPU, {round(self.cpus, 2):g} CPU{memory}"


def resolve_gpus(config: FusionConfig, cluster_has_gpus: bool) -> FusionConfig:
    """The same configuration with every `None` GPU count replaced by what it means on this cluster.

    An engine takes tensor_parallel_size * pipeline_parallel_size GPUs, a train worker one; none on a cluster without.
    """

    def resolved(model: VllmModel) -> VllmModel:
        if model.resources.num_gpus is not None:
            return model
        split = model.engine.tensor_parallel_size * model.engine.pipeline_parallel_size
        resources = model.resources.model_copy(update={"num_gpus": float(split) if cluster_has_gpus else 0.0})
        return model.model_copy(update={"resources": resources})

    per_worker = dict(config.training.resources_per_worker)
    if cluster_has_gpus:
        per_worker.setdefault("GPU", 1)
    return config.model_copy(
        update={
            "sources": tuple(resolved(s) if isinstance(s, VllmModel) else s for s in config.sources),
            "target": resolved(config.target),
            "training": config.training.model_copy(update={"resources_per_worker": per_worker}),
        }
    )


def bundles(config: FusionConfig) -> list[Bundle]:
    """Everything that must find room, in the order in which it is seated. The GPU counts must be resolved."""
    per_worker, num_workers = config.training.resources_per_worker, config.training.num_workers
    wanted = [
        Bundle(
            who=f"trainer worker {i + 1} of {num_workers}",
            owner="trainer",
            num_cpus=per_worker.get("CPU", 0) + SMALL_CPUS,
            num_gpus=per_worker.get("GPU", 0),
            memory_gb=per_worker.get("memory", 0) / 1e9,
        )
        for i in range(num_workers)
    ]
    sources = [source for source in config.sources if isinstance(source, VllmModel)]
    sources.sort(key=lambda source: -_gpus(source))
    for model in (config.target, *sources):
        role = "target" if model is config.target else "source"
        for replica in range(model.replicas):
            wanted += _engine_bundles(model, f"{role} {model.name}, engine {replica + 1} of {model.replicas}")
    harvest_cpus = SMALL_CPUS * (config.harvest.max_tasks_in_flight + 1)
    wanted.append(Bundle("harvest tasks, tree manager and sample queue", "harvest", harvest_cpus))
    return wanted


def _gpus(model: VllmModel) -> float:
    assert model.resources.num_gpus is not None, "resolve_gpus() comes first"
    return model.resources.num_gpus


def _engine_bundles(model: VllmModel, who: str) -> list[Bundle]:
    """One bundle for an engine inside one node; one for each pipeline stage where there are several."""
    stages = model.engine.pipeline_parallel_size if _gpus(model) else 1
    resources = model.resources
    return [
        Bundle(
            who=who if stages == 1 else f"{who}, stage {stage + 1} of {stages}",
            owner=model.name,
            num_cpus=resources.num_cpus if stage == 0 else 0,
            num_gpus=_gpus(model) / stages,
            memory_gb=(resources.memory_gb or 0) if stage == 0 else 0,
        )
        for stage in range(stages)
    ]


def place(config: FusionConfig, nodes: Sequence[Node]) -> Layout:
    """Seats every bundle of a configuration whose GPU counts are resolved. Pure and deterministic.

    Bundles of one owner share a node where they can; GPU bundles take the node with the fewest free cards that
    suffice, so that large holes stay; bundles without GPUs prefer nodes without.
    """
    free = [_Free(node) for node in nodes]
    seats: list[Seat] = []
    misfits: list[Misfit] = []
    for bundle in bundles(config):
        fitting = [node for node in free if node.fits(bundle)]
        if not fitting:
            misfits.append(Misfit(bundle, tuple(str(node) for node in free)))
            continue
        at = {seat.node for seat in seats if seat.bundle.owner == bundle.owner}
        best = min(fitting, key=lambda node: (node.node.name not in at, sum(node.cards), -node.cpus))
        best.take(bundle)
        seats.append(Seat(bundle, best.node.name))
    return Layout(tuple(seats), tuple(misfits))


def placement_errors(config: FusionConfig, nodes: Sequence[Node]) -> list[ConfigError]:
    """What does not fit, as errors on the fields that ask for it. Takes unresolved configurations too."""
    config = resolve_gpus(config, any(node.num_gpus for node in nodes))
    wanted = bundles(config)
    num_gpus, available = sum(bundle.num_gpus for bundle in wanted), sum(node.num_gpus for node in nodes)
    errors = []
    for misfit in place(config, nodes).misfits:
        remedy = f"The whole run needs {num_gpus:g} GPUs and there are {available}. " if num_gpus > available else ""
        remedy += "Add nodes, or ask for less (fewer replicas or workers, a smaller split)."
        errors.append(ConfigError(_field(config, misfit.bundle.owner), str(misfit.bundle), str(misfit), remedy))
    return _one_per_field(errors)


def _field(config: FusionConfig, owner: str) -> str:
    if owner == "trainer":
        return "training.resources_per_worker"
    if owner == "harvest":
        return "harvest.max_tasks_in_flight"
    names = [source.name for source in config.sources]
    return f"sources.{names.index(owner)}.resources" if owner in names else "target.resources"


def _one_per_field(errors: list[ConfigError]) -> list[ConfigError]:
    return list({error.field: error for error in reversed(errors)}.values())[::-1]
