"""`placement: colocate`: what it implies, and what cannot work with it. Pure; called by fusion_config.py.

Harvest and training take turns on the same cards, so nothing may be asked for that lets both work at once, takes a card
whole, or leaves the trainer work of its own in the harvest's turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bohdi_ray.config.models import VllmModel
from bohdi_ray.config.presets import with_values
from bohdi_ray.errors import ConfigError

if TYPE_CHECKING:
    from bohdi_ray.config import FusionConfig

IMPLIED = {"harvest.max_staleness": 0}


def with_colocate(data: Any) -> Any:
    """`data` with the values that `placement: colocate` implies, where it has no value of its own; never changed in
    place."""
    return with_values(data, IMPLIED) if isinstance(data, Mapping) and data.get("placement") == "colocate" else data


def errors_of_colocate(config: FusionConfig) -> Iterator[ConfigError]:
    """One error for each setting that does not work with `placement: colocate`."""
    if not config.colocates:
        return
    staleness, training = config.harvest.max_staleness, config.training
    if staleness:
        rule = "with placement: colocate harvest and training take turns, so every round is harvested with the newest"
        remedy = "Leave it out or set it to 0, or use placement: separate."
        yield ConfigError("harvest.max_staleness", staleness, f"{rule} weights", remedy)
    if training.save_optimizer_every > 1 and not training.reset_optimizer:
        rule = (
            "with placement: colocate a trainer that restarts in the harvest's turn must have no round to train again"
        )
        remedy = "Leave it out or set it to 1."
        yield ConfigError("training.save_optimizer_every", training.save_optimizer_every, rule, remedy)
    if training.resources_per_worker.get("GPU"):
        rule = "with placement: colocate a worker's share of its card is fixed"
        amount = training.resources_per_worker["GPU"]
        yield ConfigError("training.resources_per_worker.GPU", amount, rule, "Leave GPU out.")
    if config.evaluate.every:
        rule = "with placement: colocate the engines sleep while the trainer works, so none is idle"
        remedy = "Leave it out; `bohdi evaluate RUN@VERSION` evaluates afterwards."
        yield ConfigError("evaluate.every", config.evaluate.every, rule, remedy)
    yield from _errors_of_deepspeed(config)
    hosted = [(f"sources.{i}", m) for i, m in enumerate(config.sources) if isinstance(m, VllmModel)]
    for field, model in [*hosted, ("target", config.target)]:
        yield from _errors_of_model(field, model)


def _errors_of_model(field: str, model: VllmModel) -> Iterator[ConfigError]:
    replicas, engine = model.replicas, model.engine
    if replicas.min < replicas.max:
        rule = "with placement: colocate all engines of a card share its memory, so their number is fixed"
        yield ConfigError(f"{field}.replicas", str(replicas), rule, f"Write a number: {replicas.min}.")
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if (size := getattr(engine, name)) > 1:
            rule = "with placement: colocate an engine has a share of one card, and Ray has no shares of several"
            remedy = "Leave it at 1 (a smaller or quantized model), or use placement: separate."
            yield ConfigError(f"{field}.engine.{name}", size, rule, remedy)
    if model.resources.num_gpus:
        rule = "with placement: colocate an engine's share of a card follows from engine.gpu_memory_utilization"
        yield ConfigError(f"{field}.resources.num_gpus", model.resources.num_gpus, rule, "Leave it out.")


def _errors_of_deepspeed(config: FusionConfig) -> Iterator[ConfigError]:
    """What DeepSpeed's `offload_states` (0.19) cannot move off the card."""
    zero = config.training.deepspeed.get("zero_optimization")
    if not isinstance(zero, dict):
        return  # another check refuses it
    field = "training.deepspeed.zero_optimization"
    stage, on_host = zero.get("stage"), _device(zero.get("offload_optimizer")) in ("cpu", "nvme")
    if not on_host and (stage == 3 or (stage == 1 and config.training.dtype == "bfloat16")):
        rule = "with placement: colocate the trainer's states leave the card, and DeepSpeed cannot move this stage's"
        remedy = "Use stage 2, or add offload_optimizer: {device: cpu}."
        yield ConfigError(f"{field}.stage", stage, rule, remedy)
    if _device(zero.get("offload_param")) in ("cpu", "nvme"):
        rule = "with placement: colocate the trainer's states leave the card, which DeepSpeed refuses with this"
        yield ConfigError(f"{field}.offload_param", zero["offload_param"], rule, "Leave it out.")


def _device(offload: Any) -> Any:
    return offload.get("device") if isinstance(offload, dict) else None
