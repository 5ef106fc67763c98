"""Context windows of engines, and whether weights and KV caches fit the GPUs they would get. Part of the preflight."""

from __future__ import annotations

from collections.abc import Sequence

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.engine_settings import shrinks_weights
from bohdi_ray.placement.memory.estimate import weights_gb
from bohdi_ray.placement.memory.kv_check import kv_findings
from bohdi_ray.placement.memory.windows import window_errors
from bohdi_ray.placement.placement import place, resolve_gpus
from bohdi_ray.preflight.findings import Findings


def hosted_models(config: FusionConfig) -> dict[str, VllmModel]:
    """Every model that a vLLM engine loads, by its path in the configuration."""
    models = {f"sources.{i}": m for i, m in enumerate(config.sources) if isinstance(m, VllmModel)}
    return {**models, "target": config.target}


def check_kv_room(config: FusionConfig, nodes: Sequence[Node] | None, findings: Findings) -> None:
    """Checks that each engine's KV cache can hold one request of its whole window."""
    # Where it would run is not known: as if on GPUs, which share a cache between them and need less of it each.
    resolved = resolve_gpus(config, nodes is None or any(node.num_gpus for node in nodes))
    cards = _cards(resolved, nodes or ())
    for at, model in hosted_models(resolved).items():
        if (size := findings.sizes[model.name]) is not None:
            errors, notes = kv_findings(at, model, size, cards.get(model.name))
            findings.problems += errors
            findings.notes += notes


def check_windows(config: FusionConfig, findings: Findings) -> None:
    """Checks the context windows: whether each is known, whether the model supports it, whether answers leave room for
    a prompt."""
    longest = sum(model.sampling_of("answer").max_tokens or 0 for model in (*config.sources, config.target))
    for at, model in hosted_models(config).items():
        size = findings.sizes[model.name]
        window = model.engine.max_model_len if size is None else size.window_of(model)
        for error in window_errors(at, model, window, None if size is None else size.max_positions):
            findings.refuse(error.field, error.value, error.rule, error.remedy)
        judges = model is not config.target and config.judge.names_letter
        if judges and window is not None and longest >= window:
            findings.notes.append(
                f"{model.name}: when all answers are as long as they may be ({longest} tokens together), they do not "
                f"fit its window of {window} and it cannot judge them; such harvests are counted as failed"
            )
        if size is None:
            continue
        unknown = [what for what, value in (("the window", size.max_positions), ("KV room", size.kv)) if value is None]
        if unknown:
            unknown += ["activations"] if model.name == config.target.name and size.layers is None else []
            text = f"config.json lacks some numbers of the model; {', '.join(unknown)} could not be checked"
            findings.notes.append(f"{model.name}: {text}")


def _cards(resolved: FusionConfig, nodes: Sequence[Node]) -> dict[str, float | None]:
    """Memory of the GPUs that each model's engines would get, GB."""
    cards = {node.name: node.card_gb for node in nodes}
    return {at.bundle.owner: cards.get(at.node) for at in place(resolved, nodes).placed} if nodes else {}


def check_cards(config: FusionConfig, nodes: Sequence[Node], findings: Findings) -> None:
    """Checks for engines whose weights alone exceed the share of GPU memory that vLLM may use."""
    resolved, sizes = resolve_gpus(config, any(node.num_gpus for node in nodes)), findings.sizes
    cards = _cards(resolved, nodes)
    for place_name, model in hosted_models(resolved).items():
        size, card_gb = sizes[model.name], cards.get(model.name)
        if size is None or card_gb is None or not model.resources.num_gpus:
            continue
        needed, allowed = weights_gb(model, size), model.engine.gpu_memory_utilization * card_gb
        if needed >= allowed:
            rule = f"the weights take {needed:.1f} GB on each GPU, and vLLM may use {allowed:.1f} of {card_gb:g} GB"
            if keys := shrinks_weights(model):
                less = f"{' and '.join(keys)} in engine.extra makes them smaller, and by how much is not known"
                findings.notes.append(f"{model.name}: as stored {rule}; {less}")
                continue
            remedy = "Split the model over more GPUs, or use larger GPUs."
            field_name = f"{place_name}.engine.tensor_parallel_size"
            findings.problems.append(ConfigError(field_name, model.engine.tensor_parallel_size, rule, remedy))
