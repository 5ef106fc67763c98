"""Whether weights fit the cards their engines would get. Part of the preflight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.layout.memory import ModelSize, weights_gb
from bohdi_ray.layout.placement import Node, place, resolve_gpus


def card_errors(
    config: FusionConfig, nodes: Sequence[Node], sizes: Mapping[str, ModelSize | None]
) -> list[ConfigError]:
    """Engines whose weights alone are larger than what vLLM may take of the cards they would get."""
    resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
    cards = {node.name: node.card_gb for node in nodes}
    at = {seat.bundle.owner: seat.node for seat in place(resolved, nodes).seats}
    hosted = [(f"sources.{i}", m) for i, m in enumerate(resolved.sources) if isinstance(m, VllmModel)]
    errors = []
    for place_name, model in [*hosted, ("target", resolved.target)]:
        size, card_gb = sizes[model.name], cards.get(at.get(model.name, ""))
        if size is None or card_gb is None or not model.resources.num_gpus:
            continue
        needed, allowed = weights_gb(model, size), model.engine.gpu_memory_utilization * card_gb
        if needed >= allowed:
            rule = f"the weights take {needed:.1f} GB on each GPU, and vLLM may use {allowed:.1f} of {card_gb:g} GB"
            remedy = "Split the model over more GPUs, or give it larger ones."
            field_name = f"{place_name}.engine.tensor_parallel_size"
            errors.append(ConfigError(field_name, model.engine.tensor_parallel_size, rule, remedy))
    return errors
