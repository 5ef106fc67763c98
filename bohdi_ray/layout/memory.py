"""How much memory engines and train workers will take, estimated from a model's files. Pure but for reading headers.

Called by `bohdi plan` and the preflight. Estimates, stated formulas, and None where the model's files are not here: a
hub id is never guessed at.

    engine, per GPU      weights + KV cache + overhead
        weights          parameters * bytes per number / (tensor_parallel_size * pipeline_parallel_size)
        KV cache         kv_cache_memory_bytes, or what gpu_memory_utilization leaves of the card
        overhead         1.5 GB on a GPU (context, activations); 3 GB on a CPU (three processes, measured)
    train worker         parameters * (weights + gradients + optimizer) + overhead, without activations
        bytes            bfloat16: 2 + 4 + 12 (gradients added up in float32; master and two moments of
                         AdamW in float32); float32: 4 + 4 + 8
        of N workers     stage 1 shares the optimizer's part, stage 2 gradients too, stage 3 all (each / N)
        overhead         1.5 GB on a GPU, 2 GB on a CPU
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.config import EngineArgs, FusionConfig, TrainingConfig, VllmModel
from bohdi_ray.layout.weight_headers import STORED_BYTES, Headers, headers_of

GB = 1e9
ENGINE_OVERHEAD_GB = {"gpu": 1.5, "cpu": 3.0}
WORKER_OVERHEAD_GB = {"gpu": 1.5, "cpu": 2.0}
# (weights, gradients, optimizer), bytes per parameter
TRAIN_BYTES = {"bfloat16": (2, 4, 12), "float32": (4, 4, 8)}
NUM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model's files say about its size."""

    num_params: int
    stored_bytes: int  # of all tensors as they lie on disk
    kv_numbers_per_token: int | None  # keys and values of all layers; None: config.json does not say
    max_positions: int | None  # the model's own window, tokens


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
    num_params = stored_bytes = 0
    for table in (headers_of(folder) if headers is None else headers).values():
        for tensor in table.values():
            numbers = math.prod(tensor["shape"])
            num_params += numbers
            stored_bytes += numbers * STORED_BYTES.get(tensor["dtype"], 1)
    heads = config.get("num_attention_heads")
    kv_numbers = None
    if heads and config.get("num_hidden_layers") and config.get("hidden_size"):
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        kv_numbers = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_dim
    return ModelSize(num_params, stored_bytes, kv_numbers, config.get("max_position_embeddings"))


def estimates(config: FusionConfig, sizes: dict[str, ModelSize | None], card_gb: float | None) -> list[Estimate]:
    """One line per hosted model and one for the trainer. GPU counts must be resolved; `sizes` by model name."""
    hosted = [model for model in (*config.sources, config.target) if isinstance(model, VllmModel)]
    lines = [_engine(model, sizes[model.name], card_gb) for model in hosted]
    return [*lines, _trainer(config.training, sizes[config.target.name])]


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
            parts += _tokens(left * GB, size, engine, model)
        return Estimate(who, model.replicas.max, taken, of_what, parts)
    if size is None:
        return Estimate(who, model.replicas.max, None, of_what, "the model's files are not here")
    weights, overhead = weights_gb(model, size), ENGINE_OVERHEAD_GB[on]
    if engine.kv_cache_memory_bytes is None:
        parts = f"weights {weights:.1f} + overhead {overhead:g} + a KV cache by gpu_memory_utilization"
        return Estimate(who, model.replicas.max, None, of_what, parts)
    cache = engine.kv_cache_memory_bytes / GB
    parts = f"weights {weights:.1f} + KV cache {cache:.1f} + overhead {overhead:g}"
    parts += _tokens(engine.kv_cache_memory_bytes, size, engine, model)
    return Estimate(who, model.replicas.max, weights + cache + overhead, of_what, parts)


def _tokens(cache_bytes: float, size: ModelSize, engine: EngineArgs, model: VllmModel) -> str:
    """How many tokens the KV cache holds, as a clause."""
    if size.kv_numbers_per_token is None or cache_bytes <= 0:
        return ""
    split = engine.tensor_parallel_size * engine.pipeline_parallel_size if model.resources.num_gpus else 1
    per_token = size.kv_numbers_per_token * NUM_BYTES.get(model.dtype, 2) / split
    return f" (room for {int(cache_bytes / per_token):,} tokens)"


def _trainer(training: TrainingConfig, size: ModelSize | None) -> Estimate:
    on = "gpu" if training.resources_per_worker.get("GPU") else "cpu"
    of_what = "per GPU" if on == "gpu" else "of main memory"
    if size is None:
        return Estimate("train worker", training.num_workers, None, of_what, "the target's files are not here")
    stage, (weights, gradients, optimizer) = zero_stage(training), _worker_parts(training, size)
    total = weights + gradients + WORKER_OVERHEAD_GB[on]
    parts = f"ZeRO-{stage}: weights {weights:.1f} + gradients {gradients:.1f}"
    if on == "gpu" and offloads_optimizer(training):
        parts += f" (optimizer {optimizer:.1f} in main memory)"
    else:
        total += optimizer
        parts += f" + optimizer {optimizer:.1f}"
    parts += f" + overhead {WORKER_OVERHEAD_GB[on]:g}, without activations"
    return Estimate("train worker", training.num_workers, total, of_what, parts)


def _worker_parts(training: TrainingConfig, size: ModelSize) -> tuple[float, float, float]:
    """Weights, gradients and optimizer state of one worker, GB."""
    stage = zero_stage(training)
    weights, gradients, optimizer = (size.num_params * b / GB for b in TRAIN_BYTES[training.dtype])
    optimizer /= training.num_workers if stage >= 1 else 1
    gradients /= training.num_workers if stage >= 2 else 1
    weights /= training.num_workers if stage >= 3 else 1
    return weights, gradients, optimizer


def resting_gb(training: TrainingConfig, size: ModelSize) -> float:
    """What a worker that has left its card keeps in main memory, GB: there are no gradients between rounds."""
    weights, _, optimizer = _worker_parts(training, size)
    return weights + optimizer


def zero_stage(training: TrainingConfig) -> int:
    """The ZeRO stage asked for; 0 where the DeepSpeed configuration names none."""
    section = training.deepspeed.get("zero_optimization")
    stage = section.get("stage", 0) if isinstance(section, dict) else 0
    return stage if stage in (0, 1, 2, 3) else 0


def offloads_optimizer(training: TrainingConfig) -> bool:
    """Whether AdamW's state lies, and AdamW runs, outside the GPU."""
    section = training.deepspeed.get("zero_optimization")
    offload = section.get("offload_optimizer") if isinstance(section, dict) else None
    return isinstance(offload, dict) and offload.get("device") in ("cpu", "nvme")
