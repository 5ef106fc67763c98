"""How much memory engines and train workers will take, estimated from a model's files. Pure but for reading headers.

Called by `bohdi plan` and the preflight. Estimates, stated formulas, and None where the model's files are not here: a
hub id is never guessed at.

    engine, per GPU      weights + KV cache + overhead
        weights          parameters * bytes per number / (tensor_parallel_size * pipeline_parallel_size)
        KV cache         kv_cache_memory_bytes, or what gpu_memory_utilization leaves of the card
        overhead         1.5 GB on a GPU (context, activations); 3 GB on a CPU (three processes, measured)
    train worker         training_memory.py, and overhead: 1.5 GB on a GPU, 2 GB on a CPU
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig, TrainingConfig, VllmModel
from bohdi_ray.layout.kv_room import KvShape, kv_shape
from bohdi_ray.layout.training_memory import (
    Activations,
    LayerShape,
    activations,
    layer_shape,
    offloads_optimizer,
    worker_parts,
    zero_stage,
)
from bohdi_ray.layout.weight_headers import STORED_BYTES, Headers, headers_of

GB = 1e9
ENGINE_OVERHEAD_GB = {"gpu": 1.5, "cpu": 3.0}
WORKER_OVERHEAD_GB = {"gpu": 1.5, "cpu": 2.0}
NUM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# Parts of tensors' names in models of several modalities that are not the language model's.
OTHER_TOWERS = {
    *("vision_tower", "visual", "vision_model", "vision_encoder", "vision_language_adapter", "multi_modal_projector"),
    *("patch_merger", "embed_vision", "audio_tower", "audio_encoder", "embed_audio", "multimodal_projector"),
}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model's files say about its size."""

    num_params: int
    stored_bytes: int  # of all tensors as they lie on disk
    kv_numbers_per_token: int | None  # keys and values of all layers; None: config.json does not say
    max_positions: int | None  # the model's own window, tokens
    kv: KvShape | None = None  # which layers keep what; None: config.json does not say
    layers: LayerShape | None = None
    num_other_params: int = 0  # among them, of towers for images and sound: served, and not trained

    @property
    def num_trained_params(self) -> int:
        return self.num_params - self.num_other_params


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of one process group: an engine replica (per GPU, or on the machine) or a train worker."""

    who: str
    num: int  # how many of them
    gb: float | None  # None: not known
    of_what: str  # "per GPU" or "of main memory"
    parts: str


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of the language model in a folder. Raises OSError and ValueError for what is no such file."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json holds no mapping")
    # Models of several modalities keep the language model's settings one level down.
    return {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config


def model_size(folder: Path, headers: Headers | None = None) -> ModelSize:
    """Sizes from config.json and the headers of the weights, read now unless they are given. Raises OSError and
    ValueError for damaged files."""
    config = model_config(folder)
    num_params = stored_bytes = num_other = 0
    for table in (headers_of(folder) if headers is None else headers).values():
        for name, tensor in table.items():
            numbers = math.prod(tensor["shape"])
            num_params += numbers
            num_other += numbers if OTHER_TOWERS & set(name.split(".")) else 0
            stored_bytes += numbers * STORED_BYTES.get(tensor["dtype"], 1)
    return replace(size_of(config, num_params, stored_bytes), num_other_params=num_other)


def size_of(config: Mapping[str, Any], num_params: int, stored_bytes: int) -> ModelSize:
    """From the language model's settings and what its files say of its tensors."""
    kv = kv_shape(config)
    numbers = None if kv is None else (kv.num_full + kv.num_window) * kv.num_heads * kv.numbers_per_head
    window = config.get("max_position_embeddings")
    return ModelSize(num_params, stored_bytes, numbers, window, kv, layer_shape(config))


def estimates(
    config: FusionConfig, sizes: dict[str, ModelSize | None], card_gb: float | None, attention: str | None = None
) -> list[Estimate]:
    """One line per hosted model and one for the trainer. GPU counts must be resolved; `sizes` by model name;
    `attention` is what the target trains with (None: sdpa)."""
    hosted = [model for model in (*config.sources, config.target) if isinstance(model, VllmModel)]
    lines = [_engine(model, sizes[model.name], card_gb) for model in hosted]
    return [*lines, _trainer(config.training, sizes[config.target.name], attention)]


def weights_gb(model: VllmModel, size: ModelSize) -> float:
    """Weights of one engine on one of its GPUs (or on the machine), GB."""
    num_bytes = size.stored_bytes if model.dtype == "auto" else size.num_params * NUM_BYTES[model.dtype]
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
    """How many tokens the KV cache holds, as a clause."""
    if size.kv is None or cache_bytes <= 0:
        return ""
    windows = f", {size.kv.num_window} layers keep {size.kv.window} of each request" if size.kv.num_window else ""
    return f" (room for {int(cache_bytes / size.kv.bytes_per_token(model)):,} tokens{windows})"


def kv_room_bytes(model: VllmModel, size: ModelSize, card_gb: float | None, overhead_gb: float) -> float | None:
    """What is left for the KV cache on each GPU (or on the machine); None where that is not known."""
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
    """None where config.json does not say how wide the model is."""
    return None if size.layers is None else activations(training, size.layers, attention)


def resting_gb(training: TrainingConfig, size: ModelSize) -> float:
    """What a worker that has left its card keeps in main memory, GB: there are no gradients between rounds."""
    parts = worker_parts(training, size.num_trained_params)
    return parts.weights + parts.optimizer
