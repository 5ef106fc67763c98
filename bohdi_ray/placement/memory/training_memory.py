"""Memory and disk that training takes, estimated from the target's configuration. Pure.

Called by estimate.py, shared_cards.py and `bohdi plan`. B is the bytes of a number in `training.dtype`, N the workers.

    a worker        weights + gradients + optimizer + the larger of activations and AdamW's temporaries + overhead
    by parameter    bytes: bfloat16 2 + 4 + 12 (gradients are added up in float32; master and two moments of AdamW
                    in float32), float32 4 + 4 + 12. ZeRO 1 shares the optimizer's part, 2 gradients too, 3 all
                    (each / N)
    temporaries     while AdamW steps, of the optimizer's share: 4 bytes on a GPU (the root of the second moment),
                    8 on a CPU (and its quotient)
    activations     what is kept for the backward pass, of `micro_batch_size` lines of `max_length` tokens:
        a layer     for each token   normed numbers * (4 + 2 B)   a float32 copy, normalised, scaled: the hidden state
                                     before attention and MLP, in Gemma behind them too; in some, queries and keys
                                     + query width * 4 B          queries, keys and values as wide as them, output
                                     + MLP width * 4 B            gate, up, activated, product
                                     + line * B                   packed rows: the mask, which sdpa keeps by layer
                                     eager: + heads * line * (4 + B), with a soft cap one B more
        checkpointed    hidden * B for each layer, and one layer as above
        logits      for each token   vocabulary * 3 B (the logits, their gradient in parts and whole), a soft cap one
                    more: as if every token were an answer's; or, while few, the float32 copies of the last 512
                    (objectives.py)
    disk            keep_checkpoints + 1 versions of the weights (the next is written before one goes), version 0 and
                    the best one, RUN/target and RUN/best, and two optimizer states (the old one goes once the new one
                    is committed): by parameter 12 bytes and the weights again; none with `reset_optimizer`

Compared with what torch allocates on a CPU: docs/benchmarks.md has the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bohdi_ray.config import TrainingConfig
from bohdi_ray.placement.memory.config_numbers import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    LAYERS,
    VOCAB,
    amount,
    kv_heads,
    largest,
    number,
)
from bohdi_ray.placement.memory.engine_settings import NUM_BYTES

GB = 1e9
# (weights, gradients, optimizer), bytes per parameter
TRAIN_BYTES = {"bfloat16": (2, 4, 12), "float32": (4, 4, 12)}
TEMPORARY_BYTES = {"gpu": 4, "cpu": 8}
CHUNK_TOKENS, FLOAT32_COPIES = 512, 3
SANDWICHED = ("gemma2", "gemma3", "gemma4", "vaultgemma")  # norms behind attention and MLP as well
NORMS_QUERIES = ("qwen3", "gemma3", "gemma4", "olmo2", "olmo3")
OPTIMIZER_FILE_BYTES = 12


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Widths of a decoder, in numbers per token."""

    num_layers: int
    hidden: int
    normed: int  # numbers that go through a norm, in a layer
    query: int
    mlp: int  # of the experts a token goes through, where there are some
    num_heads: int
    vocab: int
    logit_cap: bool
    attention_cap: bool


def layer_shape(config: Mapping[str, Any]) -> LayerShape | None:
    """The shape, from the language model's config.json; None if it does not give it. Raises ValueError for values that
    are not numbers."""
    hidden, layers, heads, vocab = (number(config, *names) for names in (HIDDEN, LAYERS, HEADS, VOCAB))
    if not (hidden and layers and heads and vocab):
        return None
    experts = largest(config, "num_experts_per_tok") or 0
    mlp = largest(config, "moe_intermediate_size") if experts else None
    mlp = mlp or largest(config, "intermediate_size") or 4 * hidden
    head_dim, family = number(config, *HEAD_DIM) or hidden // heads, str(config.get("model_type", ""))
    query = heads * head_dim
    # Gemma multiplies by its norms' weights in float32: a little more than twice two norms.
    normed = hidden * 9 // 2 if family.startswith(SANDWICHED) else hidden * 2
    if family.startswith(NORMS_QUERIES):
        normed += query + kv_heads(config, heads) * head_dim
    caps = (amount(config, name) is not None for name in ("final_logit_softcapping", "attn_logit_softcapping"))
    return LayerShape(layers, hidden, normed, query, mlp * max(1, experts), heads, vocab, *caps)


@dataclass(frozen=True, slots=True)
class Activations:
    """GB that a worker keeps for the backward pass."""

    layers: float
    logits: float

    @property
    def total(self) -> float:
        return self.layers + self.logits


def activations(training: TrainingConfig, shape: LayerShape, attention: str | None = None) -> Activations:
    """The largest amount, for a micro-batch of full lines. `attention` is the implementation in use; None: sdpa."""
    b, tokens = NUM_BYTES[training.dtype], training.micro_batch_size * training.max_length
    layer = shape.normed * (4 + 2 * b) + shape.query * 4 * b + shape.mlp * 4 * b
    if attention == "eager":
        layer += shape.num_heads * training.max_length * (4 + b + b * shape.attention_cap)
    elif attention in (None, "sdpa") and training.packing:
        layer += training.max_length * b
    if training.gradient_checkpointing:
        layers = shape.num_layers * shape.hidden * b + layer
    else:
        layers = shape.num_layers * layer
    layers += shape.hidden * (4 + 2 * b)  # the last norm
    return Activations(tokens * layers / GB, shape.vocab * _logit_bytes(tokens, b, shape.logit_cap) / GB)


def _logit_bytes(tokens: int, b: int, capped: bool) -> int:
    """Bytes for each word of the vocabulary, at most."""
    in_float32 = 4 * FLOAT32_COPIES * min(tokens, CHUNK_TOKENS)
    so_far = b * (2 * tokens - CHUNK_TOKENS) if tokens > CHUNK_TOKENS else 0
    return max(so_far + in_float32, 3 * b * tokens) + b * tokens * capped


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """GB of one worker, without the fixed overhead of the device."""

    weights: float
    gradients: float
    optimizer: float
    temporaries: float


def worker_parts(training: TrainingConfig, num_params: int) -> WorkerParts:
    """The memory of one worker under the ZeRO stage."""
    stage, workers = zero_stage(training), training.num_workers
    weights, gradients, optimizer = (num_params * b / GB for b in TRAIN_BYTES[training.dtype])
    on = "gpu" if training.resources_per_worker.get("GPU") and not offloads_optimizer(training) else "cpu"
    temporaries = num_params * TEMPORARY_BYTES[on] / GB
    return WorkerParts(
        weights / (workers if stage >= 3 else 1),
        gradients / (workers if stage >= 2 else 1),
        optimizer / (workers if stage >= 1 else 1),
        temporaries / (workers if stage >= 1 else 1),
    )


@dataclass(frozen=True, slots=True)
class Disk:
    """GB that the run's checkpoints take at most, and GB that a round adds before older ones are deleted."""

    version: float
    optimizer: float  # of one state; 0 with reset_optimizer
    most: float


def checkpoint_disk(training: TrainingConfig, num_params: int, stored_bytes: int) -> Disk:
    """The disk use of checkpoints. Weights are published in the model's own number format, `stored_bytes` in all."""
    version = stored_bytes / GB
    saved = OPTIMIZER_FILE_BYTES + NUM_BYTES[training.dtype]
    optimizer = 0.0 if training.reset_optimizer else num_params * saved / GB
    return Disk(version, optimizer, (training.keep_checkpoints + 1 + 2 + 2) * version + 2 * optimizer)


def zero_stage(training: TrainingConfig) -> int:
    """The ZeRO stage asked for; 0 where the DeepSpeed configuration names none."""
    section = training.deepspeed.get("zero_optimization")
    stage = section.get("stage", 0) if isinstance(section, dict) else 0
    return stage if stage in (0, 1, 2, 3) else 0


def offloads_optimizer(training: TrainingConfig) -> bool:
    """Whether AdamW and its state are outside the GPU."""
    section = training.deepspeed.get("zero_optimization")
    offload = section.get("offload_optimizer") if isinstance(section, dict) else None
    return isinstance(offload, dict) and offload.get("device") in ("cpu", "nvme")
