"""Numbers in a language model's config.json, under the various names that families use. Pure.

Called by all estimates that use config.json. A value that is not a number raises ValueError, like any damaged file; a
missing value is None, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.targets import text_tower_of

# The first name that is there counts. GPT-2's, MPT's and ChatGLM's names are behind the usual one.
HIDDEN = ("hidden_size", "n_embd", "d_model")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
HEAD_DIM = ("head_dim", "hidden_size_per_head", "kv_channels")
VOCAB = ("vocab_size", "padded_vocab_size")
# Families whose `multi_query` leaves one KV head, whatever the others of these names say.
MULTI_QUERY = ("falcon", "RefinedWeb", "RefinedWebModel", "gpt_bigcode")
# What transformers' configuration classes fill in. The text_config of a wrapper names only what differs from it; plain
# models name everything, but for those of FILLED_IN_PLAIN.
FILLED_IN_PLAIN = ("falcon",)
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "hidden_size": 2304,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "num_hidden_layers": 26,
        "intermediate_size": 9216,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "llama": {
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "falcon": {"max_position_embeddings": 2048, "multi_query": True, "new_decoder_architecture": False},
}


def as_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's settings in a complete config.json; multimodal models keep them one level down."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else dict(config)


def language_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what the configuration class of a wrapper's language model fills in, and Falcon's."""
    text = config.get("text_config")
    kind = config.get("model_type")
    if isinstance(text, Mapping):
        kind = text.get("model_type") or text_tower_of(config)
    elif kind not in FILLED_IN_PLAIN:
        kind = None
    return {**DEFAULTS.get(str(kind), {}), **as_written(config)}


def overridden(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A complete config.json after vLLM's `hf_overrides`: sections are merged, everything else is replaced."""
    changed = dict(config)
    for name, value in overrides.items():
        part = changed.get(name)
        inside = name.endswith("_config") and isinstance(value, Mapping)
        changed[name] = overridden(part, value) if inside and isinstance(part, Mapping) else value
        if name in ("rope_scaling", "rope_parameters"):  # two names of one thing
            changed["rope_parameters"] = value
    return changed


def number(config: Mapping[str, Any], *names: str) -> int | None:
    """The positive integer under the first of these names that exists. Raises ValueError."""
    for name in names:
        if (value := config.get(name)) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            raise ValueError(f"config.json gives {name} as {value!r}, which is not a whole number")
        # Some write 0 or -1 for what there is none of.
        if value > 0:
            return int(value)
    return None


def largest(config: Mapping[str, Any], name: str) -> int | None:
    """As `number`, for a value that some families give per layer: the largest. Raises ValueError."""
    value = config.get(name)
    if not isinstance(value, list):
        return number(config, name)
    return max((number({name: one}, name) or 0 for one in value), default=0) or None


def kv_heads(config: Mapping[str, Any], num_heads: int) -> int:
    """Number of key and value heads in a layer, at least one; if layers differ, the smallest number. Raises
    ValueError."""
    one_head = config.get("multi_query") and not config.get("new_decoder_architecture")
    if one_head and config.get("model_type") in MULTI_QUERY:
        return 1
    groups = [group for block in attention_blocks(config) if (group := number(block, "n_heads_in_group"))]
    if groups:
        return max(1, num_heads // max(groups))
    return number(config, *KV_HEADS) or num_heads


def attention_blocks(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attention settings of each layer, for models made by architecture search; empty for others."""
    blocks = config.get("block_configs")
    blocks = [block for block in blocks if isinstance(block, Mapping)] if isinstance(blocks, list) else []
    return [block["attention"] for block in blocks if isinstance(block.get("attention"), Mapping)]


def amount(config: Mapping[str, Any], name: str) -> float | None:
    """A positive number that need not be an integer; None if there is none. Raises ValueError."""
    value = config.get(name)
    if value is None or value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"config.json gives {name} as {value!r}, which is not a number")
    return float(value) if value > 0 else None


def check_names(config: Mapping[str, Any]) -> None:
    """Raises ValueError if config.json's model_type is not a name, or its architectures are not a list of names."""
    names, kind = config.get("architectures"), config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f"config.json gives model_type as {kind!r}, which is not a name")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"config.json gives architectures as {names!r}, which is not a list of names")
