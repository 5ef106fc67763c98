"""Whether a checkpoint holds the tensors that its configuration makes a model of. Pure: names and numbers, no torch.

Called by the preflight. transformers and vLLM give what is missing random numbers and only log it. Says what is sure:
for plain decoders, whose layers are alike, every tensor is known by name; for others the number of layers is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

_ATTENTION = tuple(f"self_attn.{p}_proj.weight" for p in "qkvo")
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_MLP = tuple(f"mlp.{p}_proj.weight" for p in ("gate", "up", "down"))
_HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_ROUND_MLP = ("pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight")
_LLAMA = (*_ATTENTION, *_MLP, *_NORMS)
# By config.json's model_type: what every layer has. Those who may have more (biases, say) are not asked for it.
LAYER_TENSORS: dict[str, tuple[str, ...]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "qwen2": (*_LLAMA, *(f"self_attn.{p}_proj.bias" for p in "qkv")),
    "qwen3": (*_LLAMA, *_HEAD_NORMS),
    "gemma2": (*_LLAMA, *_ROUND_MLP),
    "gemma3_text": (*_LLAMA, *_HEAD_NORMS, *_ROUND_MLP),
    "phi3": ("self_attn.qkv_proj.weight", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight", _MLP[2], *_NORMS),
    "olmo2": (*_ATTENTION, *_MLP, *_HEAD_NORMS, _NORMS[1], _ROUND_MLP[1]),
}
OUTSIDE = ("embed_tokens.weight", "norm.weight")
HEAD = "lm_head.weight"
_LAYER = re.compile(r"(?P<prefix>(?:.*?\.)?(?:layers|h|blocks)\.)(?P<number>\d+)\.(?P<rest>.+)")
_OTHER_TOWER = re.compile(r"vision|visual|image|audio|mtp|draft|encoder|projector", re.IGNORECASE)
REMEDY = "Download or save the folder again; what is missing would be made up at random."


def tensors_fault(config: Mapping[str, Any], names: Collection[str]) -> str | None:
    """What a checkpoint with tensors of these names lacks, as a rule for people; None where nothing is known to be
    missing. `config`: config.json's values for the language model."""
    model_type, num_layers = config.get("model_type"), config.get("num_hidden_layers")
    if not isinstance(model_type, str) or not isinstance(num_layers, int) or num_layers < 1:
        return None
    towers: dict[str, dict[int, set[str]]] = {}
    for name in names:
        if (found := _LAYER.fullmatch(name)) and not _OTHER_TOWER.search(found["prefix"]):
            towers.setdefault(found["prefix"], {}).setdefault(int(found["number"]), set()).add(found["rest"])
    quantized = config.get("quantization_config") or config.get("compression_config")
    plain = model_type in LAYER_TENSORS and not quantized
    if not towers:
        return "its weights hold no layer of the model" if plain else None
    prefix, layers = max(towers.items(), key=lambda tower: len(tower[1]))
    if plain and not _is_wrapper(config) and prefix not in ("model.layers.", "layers."):
        return f"all its tensors stand under {prefix.removesuffix('layers.')!r}, where no loader of {model_type} looks"
    missing = sorted(set(range(num_layers)) - layers.keys())
    if missing:
        which = ", ".join(map(str, missing[:3])) + (" and so on" if len(missing) > 3 else "")
        return f"its weights lack {len(missing)} of the {num_layers} layers of config.json ({which})"
    return _lacks(config, names, prefix, layers) if plain else None


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    """Whether the language model is a part of a model of several modalities, and stands under a prefix."""
    return isinstance(config.get("text_config"), dict)


def _lacks(
    config: Mapping[str, Any], names: Collection[str], prefix: str, layers: Mapping[int, set[str]]
) -> str | None:
    """Tensors of a plain decoder that are missing one by one."""
    root = prefix.removesuffix("layers.")
    missing = [root + name for name in OUTSIDE if root + name not in names]
    if config.get("tie_word_embeddings") is False and not any(name.endswith(HEAD) for name in names):
        missing.append(HEAD)
    needed = LAYER_TENSORS[config["model_type"]]
    missing += [
        f"{prefix}{number}.{name}"
        for number in range(config["num_hidden_layers"])
        for name in needed
        if name not in layers[number]
    ]
    if not missing:
        return None
    return f"its weights lack {missing[0]}" + (f" and {len(missing) - 1} others" if len(missing) > 1 else "")
