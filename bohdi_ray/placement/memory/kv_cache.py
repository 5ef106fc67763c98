"""How much KV cache one request of a whole window takes, and whether an engine has room for it. Pure.

Called by estimate.py and the preflight. vLLM refuses to start where the cache cannot hold one request of
`max_model_len`.

    bytes per GPU     sum over layers of tokens kept * numbers per token * bytes per number / pipeline stages
        full layer    every token; 2 * KV heads * head size, of which a GPU has its share by tensor_parallel_size,
                      one head at least
        window layer  `sliding_window` tokens at most
        MLA           kv_lora_rank + qk_rope_head_dim a token, on every GPU
        linear, state space    a state of fixed size, left out

All of it is at most what vLLM counts (blocks, padding of groups and tokens in flight come on top), so that what does
not fit here does not fit there. `sure` is False where a model's layers are not known to be counted right; then it is a
note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.families.states import STATE_LAYERS, STATE_SETTINGS, listed_layers
from bohdi_ray.placement.memory.config_numbers import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    LAYERS,
    attention_blocks,
    kv_heads,
    number,
)
from bohdi_ray.placement.memory.engine_settings import kv_number_bytes

BLOCK = 16  # tokens; vLLM's smallest usual block, to which a remedy is rounded
# Names that families give to kinds of layers in a list of them, or letters in a pattern.
FULL = ("full_attention", "attention", "global", "full", "*")
WINDOW = ("sliding_attention", "chunked_attention", "sliding_window", "local")
NO_CACHE = (*STATE_LAYERS, "moe", "mlp", "-", "E")
LETTERS = {"L": "local", "G": "global"}  # of a sliding_window_pattern that is written as text
# Every which layer keeps all tokens, where config.json leaves it to the family.
EVERY = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2}


@dataclass(frozen=True, slots=True)
class KvShape:
    """What the layers of a model keep per token in the KV cache."""

    num_full: int  # layers that keep every token
    num_window: int  # layers that keep `window` tokens
    window: int | None
    num_heads: int  # KV heads; 1 for MLA
    numbers_per_head: int  # keys and values of one head and token
    splits: bool  # over tensor parallel GPUs
    sure: bool = True

    def needed_bytes(self, num_tokens: int, model: VllmModel) -> float:
        """Bytes that one request of `num_tokens` tokens needs on each GPU (or on the machine)."""
        kept = self.num_full * num_tokens + self.num_window * min(num_tokens, self.window or num_tokens)
        return kept * self._bytes_per_layer_and_token(model)

    def bytes_per_token(self, model: VllmModel) -> float:
        """Bytes per further token of a request that is longer than any window; if all layers have a window, of a short
        request."""
        return (self.num_full or self.num_window) * self._bytes_per_layer_and_token(model)

    def most_tokens(self, room_bytes: float, model: VllmModel) -> int:
        """The length of the longest request that fits into `room_bytes`, in whole blocks; 0 if not even a block
        fits."""
        per_token = self._bytes_per_layer_and_token(model)
        longest = room_bytes / ((self.num_full + self.num_window) * per_token)
        if self.num_full and self.num_window and longest > (self.window or 0):
            longest = (room_bytes / per_token - self.num_window * (self.window or 0)) / self.num_full
        return max(0, int(longest) // BLOCK * BLOCK)

    def _bytes_per_layer_and_token(self, model: VllmModel) -> float:
        engine = model.engine
        on_gpus = bool(model.resources.num_gpus)
        tensor, stages = (engine.tensor_parallel_size, engine.pipeline_parallel_size) if on_gpus else (1, 1)
        heads = max(1, self.num_heads // tensor) if self.splits else self.num_heads
        return heads * self.numbers_per_head * kv_number_bytes(model) / stages


def kv_shape(config: Mapping[str, Any]) -> KvShape | None:
    """The shape, from the language model's config.json; None if it does not give it. Raises ValueError for values that
    are not numbers."""
    heads, hidden, layers = (number(config, *names) for names in (HEADS, HIDDEN, LAYERS))
    if not (heads and hidden and layers):
        return None
    kinds = layer_kinds(config)
    # Layers that read another layer's cache, another head size on some layers, a cache stored in fp8.
    unusual = (
        *("num_kv_shared_layers", "global_head_dim", "num_global_key_value_heads", "attention_chunk_size"),
        "block_configs",
    )
    quantised = config.get("quantization_config")
    sure = kinds is not None and not any(config.get(name) for name in unusual)
    sure = sure and not (isinstance(quantised, Mapping) and quantised.get("kv_cache_scheme"))
    full, window = kinds if kinds is not None else (layers, 0)
    span = number(config, "sliding_window") if window else None
    if rank := number(config, "kv_lora_rank"):
        return KvShape(full + window, 0, None, 1, rank + (number(config, "qk_rope_head_dim") or 0), False, sure)
    head_dim = number(config, *HEAD_DIM) or hidden // heads
    # Of layers that were searched for, those without attention keep nothing.
    full = sum(not block.get("no_op") for block in attention_blocks(config)) or full
    return KvShape(full, window, span, kv_heads(config, heads), 2 * head_dim, True, sure)


def layer_kinds(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(layers that keep every token, layers with a window); None if not known. Raises ValueError."""
    layers, span = number(config, *LAYERS) or 0, number(config, "sliding_window")
    if listed := listed_layers(config):
        return _counted(listed, span)
    if every := number(config, "full_attention_interval"):
        return layers // every, 0
    if any(config.get(name) for name in STATE_SETTINGS):
        return None
    if not span or config.get("use_sliding_window") is False:
        return layers, 0
    family, pattern = str(config.get("model_type", "")), config.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        repeated = [LETTERS.get(pattern[i % len(pattern)], "unknown") for i in range(layers)]
        return _counted(repeated, span)
    if every := number(config, "sliding_window_pattern") or EVERY.get(family):
        return layers // every, layers - layers // every
    if family in ("mistral", "phi3"):
        return 0, layers
    return None


def _counted(kinds: object, span: int | None) -> tuple[int, int] | None:
    """As `layer_kinds`, for layers that are listed one by one."""
    if not isinstance(kinds, list | str):
        raise ValueError(f"config.json lists its layers as {kinds!r}, which is not a list")
    full, window = sum(kind in FULL for kind in kinds), sum(kind in WINDOW for kind in kinds)
    known = all(kind in (*FULL, *WINDOW, *NO_CACHE) for kind in kinds)
    return (full, window) if known and (window == 0 or span) else None


@dataclass(frozen=True, slots=True)
class Shortage:
    """The KV cache is too small for one request of the whole window."""

    window: int
    needed_bytes: float
    room_bytes: float
    most_tokens: int

    def rule(self) -> str:
        """The shortage as text for people, without a remedy."""
        needed, room = self.needed_bytes / 1e9, max(self.room_bytes, 0) / 1e9
        return f"a request of {self.window} tokens needs {needed:.1f} GB of KV cache and there is room for {room:.1f}"


def shortage(shape: KvShape, window: int, room_bytes: float, model: VllmModel) -> Shortage | None:
    """The shortage, if `room_bytes` of KV cache on each GPU cannot hold one request of `window` tokens; else None."""
    needed = shape.needed_bytes(window, model)
    if needed <= room_bytes:
        return None
    return Shortage(window, needed, room_bytes, shape.most_tokens(room_bytes, model) if room_bytes > 0 else 0)


def rounded_up(share: float) -> float:
    """A gpu_memory_utilization, rounded up to the next hundredth."""
    return math.ceil(share * 100) / 100
