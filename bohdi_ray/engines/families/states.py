"""Layers that keep one state a sequence instead of keys and values a token: Mamba's and its like. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where a config.json lists its layers, one by one or as letters.
LISTS = ("layer_types", "layers_block_type", "hybrid_override_pattern")
STATE_LAYERS = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "ssm", "M")
# Settings of such layers, in models that do not list theirs.
STATE_SETTINGS = ("mamba_d_state", "ssm_cfg", "ssm_state_size", "linear_num_value_heads", "state_size", "mamba_n_heads")


def keeps_states(config: Mapping[str, Any]) -> bool:
    """Whether a language model with this config.json has such layers."""
    listed = next((config[name] for name in LISTS if isinstance(config.get(name), list | str)), None)
    if listed is not None:
        return any(kind in STATE_LAYERS for kind in listed)
    return any(config.get(name) for name in STATE_SETTINGS)
