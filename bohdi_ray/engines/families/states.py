"""Layers that keep one recurrent state per sequence instead of keys and values per token: Mamba's and similar ones.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where a config.json lists its layers, one by one or as letters.
LISTS = ("layer_types", "layers_block_type", "hybrid_override_pattern")
STATE_LAYERS = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "ssm", "M")
# Settings of such layers, in models that do not list theirs.
STATE_SETTINGS = (
    *("mamba_d_state", "ssm_cfg", "ssm_state_size", "linear_num_value_heads", "state_size", "mamba_n_heads"),
    "full_attention_interval",
)


def listed_layers(config: Mapping[str, Any]) -> Any:
    """The kind of each layer (a list, or letters), in whichever way this config.json lists them; None if it does not.
    Returned as written: the caller must refuse a value of another type."""
    if listed := next((config[name] for name in LISTS if config.get(name)), None):
        return listed
    if isinstance(types := config.get("attn_type_list"), list):
        return ["full_attention" if one == 1 else "linear_attention" for one in types]
    if isinstance(numbers := config.get("linear_attn_config"), Mapping):
        named = {"full_attention": numbers.get("full_attn_layers"), "linear_attention": numbers.get("kda_layers")}
        return [kind for kind, layers in named.items() if isinstance(layers, list) for _ in layers] or None
    return None


def keeps_states(config: Mapping[str, Any]) -> bool:
    """Whether a language model with this config.json has layers with a recurrent state."""
    listed = listed_layers(config)
    if isinstance(listed, list | str):
        return any(kind in STATE_LAYERS for kind in listed)
    return any(config.get(name) for name in STATE_SETTINGS)
