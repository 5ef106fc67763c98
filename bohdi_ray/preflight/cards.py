"""Whether weights and KV caches fit the cards their engines would get. Part of the preflight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.layout.kv_check import kv_findings
from bohdi_ray.layout.memory import ModelSize, weights_gb
from bohdi_ray.layout.placement import Node, place, resolve_gpus
from bohdi_ray.preflight.findings import Findings


def hosted_models(config: FusionConfig) -> dict[str, VllmModel]:
    """Every model that an engine of ours loads, by its place in the configuration."""
    models = {f"sources.{i}": m for i, m in enumerate(config.sources) if isinstance(m, VllmModel)}
    return {**models, "target": config.target}


def check_kv_room(config: FusionConfig, nodes: Sequence[Node] | None, findings: Findings) -> None:
    """Whether each engine's KV cache holds one request of its whole window."""
    # Where it would run is not known: as if on GPUs, which share a cache between them and need less of it each.
    resolved = resolve_gpus(config, nodes is None or any(node.num_gpus for node in nodes))
    cards = _cards(resolved, nodes or ())
    for at, model in hosted_models(resolved).items():
        if (size := findings.sizes[model.name]) is not None:
            errors, notes = kv_findings(at, model, size, cards.get(model.name))
            findings.problems += errors
            findings.notes += notes


def _cards(resolved: FusionConfig, nodes: Sequence[Node]) -> dict[str, float | None]:
    """Memory of the cards that each model's engines would get, GB."""
    cards = {node.name: node.card_gb for node in nodes}
    return {seat.bundle.owner: cards.get(seat.node) for seat in place(resolved, nodes).seats} if nodes else {}


def card_errors(
    config: FusionConfig, nodes: Sequence[Node], sizes: Mapping[str, ModelSize | None]
) -> list[ConfigError]:
    """Engines whose weights alone are larger than what vLLM may take of the cards they would get."""
    resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
    cards, errors = _cards(resolved, nodes), []
    for place_name, model in hosted_models(resolved).items():
        size, card_gb = sizes[model.name], cards.get(model.name)
        if size is None or card_gb is None or not model.resources.num_gpus:
            continue
        needed, allowed = weights_gb(model, size), model.engine.gpu_memory_utilization * card_gb
        if needed >= allowed:
            rule = f"the weights take {needed:.1f} GB on each GPU, and vLLM may use {allowed:.1f} of {card_gb:g} GB"
            remedy = "Split the model over more GPUs, or give it larger ones."
            field_name = f"{place_name}.engine.tensor_parallel_size"
            errors.append(ConfigError(field_name, model.engine.tensor_parallel_size, rule, remedy))
    return errors
