"""Plans the placement of a run: a pure function of configuration and nodes that also reports what does not fit.

Called by `bohdi plan` (nodes from a file or this machine) and before a run starts (nodes from Ray). Nothing is reserved
here: Ray does the actual placement; this says beforehand whether it can succeed. The trainer comes first, because its
worker group restarts as a whole, then the target's engines, then the sources', the largest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import SMALL_CPUS, Bundle, Free, Node, best_node
from bohdi_ray.placement.on_cpu import cpu_dtype

# With `placement: colocate`: a train worker's share of its card, so large that two never share one; and what of the
# rest an engine gets for each unit of its gpu_memory_utilization, so that those of a card's engines never exceed 1.
COLOCATED_WORKER, COLOCATED_ENGINES = 0.51, 0.49
RAYS_UNIT = 10_000  # Ray counts in ten-thousandths
TRAINER = "trainer"  # the owner of its bundles; the others' are models' names, and "harvest"


@dataclass(frozen=True, slots=True)
class Placed:
    bundle: Bundle
    node: str
    cards: tuple[int, ...] = ()  # numbers of the node's cards it has a share of


@dataclass(frozen=True, slots=True)
class Misfit:
    """A bundle that does not fit, and the free resources of each node when it was to be placed."""

    bundle: Bundle
    free: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.bundle.who} needs {self.bundle} on one node; free then: {'; '.join(self.free) or 'no node'}"


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    placed: tuple[Placed, ...]
    misfits: tuple[Misfit, ...]  # of what must find room
    short: tuple[Misfit, ...] = ()  # of what pools may grow into

    def on(self, node: str) -> tuple[Bundle, ...]:
        """All bundles placed on one node."""
        return tuple(at.bundle for at in self.placed if at.node == node)


def resolve_gpus(config: FusionConfig, cluster_has_gpus: bool) -> FusionConfig:
    """The configuration with every GPU count of `None` replaced by the number it means on this cluster.

    An engine takes tensor_parallel_size * pipeline_parallel_size GPUs, a train worker one; on a cluster without GPUs
    both take none. With `placement: colocate` both take shares of one GPU. On a CPU `dtype: auto` is resolved too
    (on_cpu.py).
    """

    def resolved(model: VllmModel) -> VllmModel:
        model = with_gpus(model)
        return model if model.resources.num_gpus else cpu_dtype(model)

    def with_gpus(model: VllmModel) -> VllmModel:
        if model.resources.num_gpus is not None:
            return model
        num_gpus: float = model.engine.tensor_parallel_size * model.engine.pipeline_parallel_size
        if config.colocates:
            # Downwards: what is rounded up might not fit though the utilizations do.
            num_gpus = math.floor(COLOCATED_ENGINES * model.engine.gpu_memory_utilization * RAYS_UNIT) / RAYS_UNIT
        resources = model.resources.model_copy(update={"num_gpus": float(num_gpus) if cluster_has_gpus else 0.0})
        return model.model_copy(update={"resources": resources})

    per_worker = dict(config.training.resources_per_worker)
    if cluster_has_gpus:
        per_worker.setdefault("GPU", COLOCATED_WORKER if config.colocates else 1)
    return config.model_copy(
        update={
            "sources": tuple(resolved(s) if isinstance(s, VllmModel) else s for s in config.sources),
            "target": resolved(config.target),
            "training": config.training.model_copy(update={"resources_per_worker": per_worker}),
        }
    )


def bundles(config: FusionConfig) -> list[Bundle]:
    """All bundles that must fit, in the order in which they are placed. The GPU counts must be resolved."""
    wanted = trainer_bundles(config)
    for model, role in _hosted(config):
        for replica in range(model.replicas.min):
            wanted += engine_bundles(model, f"{role} {model.name}, engine {replica + 1} of {model.replicas}")
    return [*wanted, harvest_bundle(config)]


def bundles_to_grow(config: FusionConfig) -> list[Bundle]:
    """Further bundles that pools may request when they grow."""
    return [
        bundle
        for model, role in _hosted(config)
        for replica in range(model.replicas.min, model.replicas.max)
        for bundle in engine_bundles(model, f"{role} {model.name}, engine {replica + 1} of {model.replicas}")
    ]


def trainer_bundles(config: FusionConfig) -> list[Bundle]:
    """One bundle per train worker, with the CPU shares of the task that reads its steps and the actor that encodes
    them."""
    per_worker, num_workers = config.training.resources_per_worker, config.training.num_workers
    custom = {name: amount for name, amount in per_worker.items() if name not in ("CPU", "GPU", "memory")}
    return [
        Bundle(
            who=f"trainer worker {i + 1} of {num_workers}",
            owner=TRAINER,
            num_cpus=per_worker.get("CPU", 0) + 2 * SMALL_CPUS,
            num_gpus=per_worker.get("GPU", 0),
            memory_gb=per_worker.get("memory", 0) / 1e9,
            labels=config.training.label_selector,
            resources=custom,
        )
        for i in range(num_workers)
    ]


def harvest_bundle(config: FusionConfig) -> Bundle:
    """The resources that the harvest's tasks and the control actors share."""
    harvest_cpus = SMALL_CPUS * (config.harvest.max_tasks_in_flight + 1)
    return Bundle("harvest tasks, tree manager and sample queue", "harvest", harvest_cpus)


def _hosted(config: FusionConfig) -> list[tuple[VllmModel, str]]:
    """The models hosted by vLLM engines, with their roles, in the order in which they are placed."""
    sources = [source for source in config.sources if isinstance(source, VllmModel)]
    sources.sort(key=lambda source: -_gpus(source))
    return [(config.target, "target"), *((source, "source") for source in sources)]


def _gpus(model: VllmModel) -> float:
    assert model.resources.num_gpus is not None, "resolve_gpus() comes first"
    return model.resources.num_gpus


def engine_bundles(model: VllmModel, who: str) -> list[Bundle]:
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
            labels=resources.label_selector,
            resources=resources.custom,
        )
        for stage in range(stages)
    ]


def place(config: FusionConfig, nodes: Sequence[Node]) -> PlacementPlan:
    """Places every bundle of a configuration whose GPU counts are resolved, then those that pools may grow into. Pure
    and deterministic."""
    free = [Free.whole(node) for node in nodes]
    placed: list[Placed] = []

    def seated(wanted: list[Bundle]) -> tuple[Misfit, ...]:
        misfits = []
        for bundle in wanted:
            node = best_node(bundle, free, {at.node for at in placed if at.bundle.owner == bundle.owner})
            if node is None:
                misfits.append(Misfit(bundle, tuple(node.lacks(bundle) for node in free)))
                continue
            placed.append(Placed(bundle, node.node.name, node.take(bundle)))
        return tuple(misfits)

    wanted, num_workers = bundles(config), config.training.num_workers
    misfits = seated(wanted[:num_workers])
    if config.colocates and wanted[0].num_gpus:
        for node in free:  # engines share the workers' cards and take no others
            node.cards = [left if left < 1 else 0.0 for left in node.cards]
    misfits += seated(wanted[num_workers:])
    short = seated(bundles_to_grow(config))
    return PlacementPlan(tuple(placed), misfits, short)


def placement_errors(config: FusionConfig, nodes: Sequence[Node]) -> list[ConfigError]:
    """Errors for everything that does not fit, on the fields that ask for it. Also accepts configurations with
    unresolved GPU counts."""
    config = resolve_gpus(config, any(node.num_gpus for node in nodes))
    wanted = bundles(config)
    num_gpus, available = sum(bundle.num_gpus for bundle in wanted), sum(node.num_gpus for node in nodes)
    errors = []
    for misfit in place(config, nodes).misfits:
        remedy = f"The whole run needs {num_gpus:g} GPUs and there are {available}. " if num_gpus > available else ""
        remedy += "Add nodes, or ask for less (fewer replicas or workers, a smaller split)."
        if config.colocates and misfit.bundle.num_gpus:
            remedy = "With placement: colocate the engines of a card are awake together, so their "
            remedy += "engine.gpu_memory_utilization must come to at most 1: lower it, or add cards and train workers."
        errors.append(ConfigError(_field(config, misfit.bundle.owner), str(misfit.bundle), str(misfit), remedy))
    return _one_per_field(errors)


def _field(config: FusionConfig, owner: str) -> str:
    if owner == TRAINER:
        return "training.resources_per_worker"
    if owner == "harvest":
        return "harvest.max_tasks_in_flight"
    names = [source.name for source in config.sources]
    return f"sources.{names.index(owner)}.resources" if owner in names else "target.resources"


def _one_per_field(errors: list[ConfigError]) -> list[ConfigError]:
    return list({error.field: error for error in reversed(errors)}.values())[::-1]
