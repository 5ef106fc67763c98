"""How much memory engines and train workers will take, estimated from a model's files. Pure but for reading headers.

Called by `bohdi plan` and the preflight. Estimates, stated formulas, and None where the model's files are not here: a
hub id is never guessed at.

    engine, per GPU      weights + KV cache + overhead
        weights          bytes / (tensor_parallel_size * pipeline_parallel_size): floats in the engine's number format,
                         what is packed as it is (packed_weights.py)
        KV cache         kv_cache_memory_bytes, or what gpu_memory_utilization leaves of the card
        overhead         1.5 GB on a GPU (context, activations); 3 GB on a CPU (three processes, measured)
    train worker         training_memory.py, and overhead: 1.5 GB on a GPU, 2 GB on a CPU
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig, TrainingConfig, VllmModel
from bohdi_ray.placement.memory.config_numbers import as_written, check_names, language_config, overridden
from bohdi_ray.placement.memory.engine_settings import hf_overrides, number_bytes
from bohdi_ray.placement.memory.kv_cache import KvShape, kv_shape
from bohdi_ray.placement.memory.packed_weights import counted
from bohdi_ray.placement.memory.training_memory import (
    Activations,
    LayerShape,
    activations,
    layer_shape,
    offloads_optimizer,
    worker_parts,
    zero_stage,
)
from bohdi_ray.placement.memory.weight_headers import Headers, headers_of
from bohdi_ray.placement.memory.windows import default_window, most_window

GB = 1e9
ENGINE_OVERHEAD_GB = {"gpu": 1.5, "cpu": 3.0}
WORKER_OVERHEAD_GB = {"gpu": 1.5, "cpu": 2.0}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model, as its files give it."""

    num_params: int
    stored_bytes: int  # of all tensors as they are on disk
    kv_numbers_per_token: int | None  # keys and values of all layers; None: config.json does not say
    max_positions: int | None  # the largest window that vLLM accepts, tokens
    kv: KvShape | None = None  # which layers keep what; None: config.json does not say
    layers: LayerShape | None = None
    num_other_params: int = 0  # among them, of towers for images and sound: served, and not trained
    num_packed: int = 0  # among them, of formats that engines keep as they are
    packed_bytes: int = 0
    default_positions: int | None = None  # the window without a max_model_len; None: the largest
    num_published: int | None = None  # numbers of the language model as it is trained; None: all but the other towers
    num_head: int = 0  # numbers of the embedding where it is published once more, as a head
    published_bytes: int | None = None  # None: as stored
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # the whole config.json

    @property
    def num_trained_params(self) -> int:
        return self.num_params - self.num_other_params

    def published(self) -> ModelSize:
        """For a target, what is trained and what its engines load: only the language model, in plain numbers."""
        trained = self.num_trained_params if self.num_published is None else self.num_published
        stored = self.stored_bytes if self.published_bytes is None else self.published_bytes
        return replace(
            self,
            num_params=trained + self.num_head,
            stored_bytes=stored,
            num_other_params=self.num_head,  # served, and in training the embedding itself
            num_packed=0,
            packed_bytes=0,
            num_published=trained,
        )

    def served_as(self, model: VllmModel) -> ModelSize:
        """The size after the engine's changes to config.json. Raises ValueError."""
        changes = hf_overrides(model)
        if not changes:
            return self
        read = size_of(language_config(overridden(self.config, changes)), self.num_params, self.stored_bytes)
        return replace(
            self,
            kv_numbers_per_token=read.kv_numbers_per_token,
            max_positions=read.max_positions,
            default_positions=read.default_positions,
            kv=read.kv,
        )

    def window_of(self, model: VllmModel) -> int | None:
        """The context window of an engine of this model, in tokens; None if it is not known."""
        return model.engine.max_model_len or self.default_positions or self.max_positions


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of one process group: an engine replica (per GPU, or on the machine) or a train worker."""

    who: str
    num: int  # how many of them
    gb: float | None  # None: not known
    of_what: str  # "per GPU" or "of main memory"
    parts: str


def model_config(folder: Path) -> dict[str, Any]:
    """The language model's config.json in a folder. Raises OSError, and ValueError for an invalid file."""
    return as_written(whole_config(folder))


def whole_config(folder: Path) -> dict[str, Any]:
    """The config.json as written. Raises OSError, and ValueError for an invalid file."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json holds no mapping")
    check_names(config)
    return config


def model_size(folder: Path, headers: Headers | None = None) -> ModelSize:
    """Sizes from config.json and the headers of the weights, which are read unless they are given. Raises OSError, and
    ValueError for damaged files."""
    config = whole_config(folder)
    sums = counted((headers_of(folder) if headers is None else headers).values(), config)
    return replace(
        size_of(language_config(config), sums.num_params, sums.stored_bytes),
        num_other_params=sums.num_other,
        num_packed=sums.num_packed,
        packed_bytes=sums.packed_bytes,
        num_published=sums.num_published,
        num_head=sums.num_head,
        published_bytes=sums.published_bytes,
        config=config,
    )


def size_of(config: Mapping[str, Any], num_params: int, stored_bytes: int) -> ModelSize:
    """Sizes from the language model's settings and the tensors in its files. Raises ValueError for settings that are
    not numbers."""
    kv = kv_shape(config)
    numbers = None if kv is None else (kv.num_full + kv.num_window) * kv.num_heads * kv.numbers_per_head
    window, by_itself = most_window(config), default_window(config)
    shape = layer_shape(config)
    return ModelSize(num_params, stored_bytes, numbers, window, kv, shape, default_positions=by_itself)


def estimates(
    config: FusionConfig, sizes: dict[str, ModelSize | None], card_gb: float | None, attention: str | None = None
) -> list[Estimate]:
    """One line for each hosted model and one for the trainer. GPU counts must be resolved; `sizes` by model name, for
    the target of what is published; `attention` is the implementation used in training (None: sdpa)."""
    hosted = [model for model in (*config.sources, config.target) if isinstance(model, VllmModel)]
    lines = [_engine(model, sizes[model.name], card_gb) for model in hosted]
    size, training = sizes[config.target.name], config.training
    trainers = [_trainer(training.at(first), size, attention) for first in config.first_rounds]
    return [*lines, max(trainers, key=lambda one: one.gb or 0.0)]


def weights_gb(model: VllmModel, size: ModelSize) -> float:
    """Weights of one engine on one of its GPUs (or on the machine), GB."""
    num_bytes = (size.num_params - size.num_packed) * number_bytes(model) + size.packed_bytes
    split = model.engine.tensor_parallel_size * model.engine.pipeline_parallel_size if model.resources.num_gpus else 1
    return num_bytes / split / GB


def _engine(model: VllmModel, size: ModelSize | None, card_gb: float | None) -> Estimate:
    on = "gpu" if model.resources.num_gpus else "cpu"
    of_what = "per GPU" if on == "gpu" else "of main memory"
    who, engine = f"engine of {model.name}", model.engine
    if on == "gpu" and engine.kv_cache_memory_bytes is None and card_gb is not None:
        # vLLM takes this share whatever the model's size is; the cache gets what is left of it.
        taken = engine.gpu_memory_utilization * card_gb
        parts = f"gpu_memory_utilization {engine.gpu_memory_utilization:g} of {card_gb:g} GB"
        if size is not None:
            left = taken - weights_gb(model, size) - ENGINE_OVERHEAD_GB["gpu"]
            parts += f": weights {weights_gb(model, size):.1f}, about {max(left, 0):.1f} left for the KV cache"
            parts += _tokens(left * GB, size, model)
        return Estimate(who, model.replicas.max, taken, of_what, parts)
    if size is None:
        return Estimate(who, model.replicas.max, None, of_what, "the model's files are not here")
    weights, overhead = weights_gb(model, size), ENGINE_OVERHEAD_GB[on]
    if engine.kv_cache_memory_bytes is None:
        parts = f"weights {weights:.1f} + overhead {overhead:g} + a KV cache by gpu_memory_utilization"
        return Estimate(who, model.replicas.max, None, of_what, parts)
    cache = engine.kv_cache_memory_bytes / GB
    parts = f"weights {weights:.1f} + KV cache {cache:.1f} + overhead {overhead:g}"
    parts += _tokens(engine.kv_cache_memory_bytes, size, model)
    return Estimate(who, model.replicas.max, weights + cache + overhead, of_what, parts)


def _tokens(cache_bytes: float, size: ModelSize, model: VllmModel) -> str:
    """The number of tokens that fit into the KV cache, as a clause."""
    if size.kv is None or cache_bytes <= 0 or not size.kv.bytes_per_token(model):
        return ""
    windows = f", {size.kv.num_window} layers keep {size.kv.window} of each request" if size.kv.num_window else ""
    return f" (room for {int(cache_bytes / size.kv.bytes_per_token(model)):,} tokens{windows})"


def kv_room_bytes(model: VllmModel, size: ModelSize, card_gb: float | None, overhead_gb: float) -> float | None:
    """The memory left for the KV cache on each GPU (or on the machine); None if it is not known."""
    engine = model.engine
    if engine.kv_cache_memory_bytes is not None:
        return float(engine.kv_cache_memory_bytes)
    if not model.resources.num_gpus or card_gb is None:
        return None
    return (engine.gpu_memory_utilization * card_gb - weights_gb(model, size) - overhead_gb) * GB


def _trainer(training: TrainingConfig, size: ModelSize | None, attention: str | None) -> Estimate:
    on = "gpu" if training.resources_per_worker.get("GPU") else "cpu"
    of_what = "per GPU" if on == "gpu" else "of main memory"
    if size is None:
        return Estimate("train worker", training.num_workers, None, of_what, "the target's files are not here")
    worker, kept = worker_parts(training, size.num_trained_params), kept_for_backward(training, size, attention)
    total = worker.weights + worker.gradients + WORKER_OVERHEAD_GB[on]
    text = f"ZeRO-{zero_stage(training)}: weights {worker.weights:.1f} + gradients {worker.gradients:.1f}"
    temporaries = worker.temporaries
    if on == "gpu" and offloads_optimizer(training):
        temporaries = 0.0
        text += f" (optimizer {worker.optimizer:.1f} in main memory)"
    else:
        total += worker.optimizer
        text += f" + optimizer {worker.optimizer:.1f}"
    if kept is None:
        total += temporaries
        text += f" + AdamW's temporaries {temporaries:.1f} + overhead {WORKER_OVERHEAD_GB[on]:g}, without activations"
        return Estimate("train worker", training.num_workers, total, of_what, text)
    total += max(kept.total, temporaries)
    checkpointed = "with" if training.gradient_checkpointing else "without"
    text += f" + the larger of activations {kept.total:.1f} (layers {kept.layers:.1f} {checkpointed} gradient "
    text += f"checkpointing, logits {kept.logits:.1f}; {training.micro_batch_size} x {training.max_length} tokens) "
    text += f"and AdamW's temporaries {temporaries:.1f} + overhead {WORKER_OVERHEAD_GB[on]:g}"
    return Estimate("train worker", training.num_workers, total, of_what, text)


def kept_for_backward(training: TrainingConfig, size: ModelSize, attention: str | None) -> Activations | None:
    """The activations kept for the backward pass; None if config.json does not give the model's width."""
    return None if size.layers is None else activations(training, size.layers, attention)


def resting_gb(training: TrainingConfig, size: ModelSize) -> float:
    """Main memory that a worker uses after it has left its GPU, GB: no gradients, because there are none between
    rounds."""
    parts = worker_parts(training, size.num_trained_params)
    return parts.weights + parts.optimizer
