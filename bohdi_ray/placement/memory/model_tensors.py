"""Checks that a checkpoint holds the tensors that its configuration requires. Pure: names and numbers, no torch.

Called by the preflight. transformers and vLLM give what is missing random numbers and only log it; vLLM's own check for
that is off for quantized models. Says what is sure: for plain decoders, whose layers are alike, every tensor is known
by name; for others, quantized ones too, the number of layers is, that there are an embedding and a last norm, and that
layers of one kind have the same tensors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from bohdi_ray.placement.memory.weight_headers import PLAIN

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
# Those that have a head of their own where config.json does not say: transformers' defaults.
UNTIED = frozenset({"llama", "mistral", "granite", "qwen2", "qwen3", "phi3", "olmo2"})
OUTSIDE = ("embed_tokens.weight", "norm.weight")
HEAD = "lm_head.weight"
# What families call the first and the last tensor outside their layers.
_EMBEDDING = re.compile(r"(?!.*norm)(.*embed.*|wte|word_embeddings)\..+")
_LAST_NORM = re.compile(r"(?!per_layer)(.*norm.*|ln_.+)\..+")
WITHOUT_NORM = frozenset({"olmo", "opt", "nanochat"})  # model types whose last norm has no weights, or may be missing
MORE_ROWS = frozenset({"mllama", "mllama_text_model", "moshi"})  # whose embedding has rows beyond vocab_size
FIRST_DIFFERS = frozenset({"modernbert-decoder"})  # whose first layer has less than the others
_LAYER = re.compile(r"(?P<root>(?:.*?\.)?)(?P<stack>(?:layers\.)?layers|h|blocks)\.(?P<number>\d+)\.(?P<rest>.+)")
_OTHER_TOWER = re.compile(r"vision|visual|image|audio|mtp|draft|encoder|projector", re.IGNORECASE)
# Names under which quantized weights are packed, and what is beside them; layers that are left out of the
# quantization have neither. Old models keep buffers among their tensors, of which some files have less than others.
_PACKED = re.compile(r"\.(qweight|weight_packed)$|_blocks$|(?<=\.weight)\..+$")
_BESIDE = re.compile(r"(scales?|scale_inv|scale_2|qzeros|g_idx|zero_point|weight_shape|absmax|inv_freq)$|indexer\.")
# config.json's numbers by which layers of one type differ: sharing keys and values with others, they may have none.
_LAST_SHARE, _GROUPS_SHARE = "num_kv_shared_layers", "cla_share_factor"
REMEDY = "Download or save the folder again; what is missing would be made up at random."


def tensors_fault(config: Mapping[str, Any], names: Collection[str], quantized: bool = False) -> str | None:
    """Tensors that a checkpoint with these names lacks, as a rule for people; None if none is known to be missing.
    `config`: config.json's values for the language model; `quantized`: whether weights are stored quantized."""
    model_type, num_layers = config.get("model_type"), config.get("num_hidden_layers")
    if not isinstance(model_type, str) or not isinstance(num_layers, int) or num_layers < 1:
        return None
    towers: dict[tuple[str, str], dict[int, set[str]]] = {}
    for name in names:
        if (found := _LAYER.fullmatch(name)) and not _OTHER_TOWER.search(found["root"]):
            tower = towers.setdefault((found["root"], found["stack"]), {})
            tower.setdefault(int(found["number"]), set()).add(found["rest"])
    quantized = quantized or any(config.get(key) for key in ("quantization_config", "compression_config"))
    known = model_type in LAYER_TENSORS
    plain = known and not quantized
    if not towers:
        return "its weights hold no layer of the model" if plain else None
    (root, stack), layers = max(towers.items(), key=lambda tower: len(tower[1]))
    if plain and not _is_wrapper(config) and root + stack not in ("model.layers", "layers"):
        return f"all its tensors are under {root!r}, where no loader of {model_type} looks"
    missing = sorted(set(range(num_layers)) - layers.keys())
    if missing:
        which = ", ".join(map(str, missing[:3])) + (" and so on" if len(missing) > 3 else "")
        return f"its weights lack {len(missing)} of the {num_layers} layers of config.json ({which})"
    lacking = _lacking_outside(config, names, root, known)
    if plain:
        lacking += _lacking_of_family(config, root + stack, layers)
    lacking += _lacking_beside_others(config, root + stack, layers, quantized)
    lacking = list(dict.fromkeys(lacking))
    if not lacking:
        return None
    return f"its weights lack {lacking[0]}" + (f" and {len(lacking) - 1} others" if len(lacking) > 1 else "")


def rows_fault(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> str | None:
    """Whether the number of rows of embedding and head differs from config.json; None if they agree or neither is
    known. `tensors`: table entries by name. transformers and vLLM accept no other number."""
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or config.get("model_type") in MORE_ROWS:
        return None
    for name, entry in tensors.items():
        shape = entry["shape"]
        is_table = name.endswith((OUTSIDE[0], HEAD)) and not _OTHER_TOWER.search(name) and not _LAYER.fullmatch(name)
        if is_table and entry["dtype"] in PLAIN and len(shape) == 2 and shape[0] != rows:
            return f"its {name} has {shape[0]} rows, and vocab_size of config.json is {rows}"
    return None


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    """Whether the language model is a part of a model of several modalities, and is under a prefix."""
    return isinstance(config.get("text_config"), dict)


def _lacking_outside(config: Mapping[str, Any], names: Collection[str], root: str, known: bool) -> list[str]:
    """Missing tensors outside the layers: embedding, last norm and head, as far as each is required."""
    lacking = []
    if known:
        modules = {name.rpartition(".")[0] for name in names}
        lacking = [root + name for name in OUTSIDE if (root + name).removesuffix(".weight") not in modules]
        tied = config.get("tie_word_embeddings")
        if tied is None and not _is_wrapper(config):  # of wrappers, whose two configurations differ, tensors decide
            tied = config["model_type"] not in UNTIED
        if tied is False and not any("lm_head." in name for name in names):
            lacking.append(HEAD)
        return lacking
    outside = [name.removeprefix(root) for name in names if name.startswith(root) and not _LAYER.fullmatch(name)]
    if not any(_EMBEDDING.fullmatch(name) for name in outside):
        lacking.append("its embedding")
    if config["model_type"] not in WITHOUT_NORM and not any(_LAST_NORM.fullmatch(name) for name in outside):
        lacking.append("its last norm")
    return lacking


def _lacking_of_family(config: Mapping[str, Any], stack: str, layers: Mapping[int, set[str]]) -> list[str]:
    """Missing tensors of a plain decoder, each by name."""
    needed, num_layers = LAYER_TENSORS[config["model_type"]], config["num_hidden_layers"]
    return [f"{stack}.{i}.{name}" for i in range(num_layers) for name in needed if name not in layers[i]]


def _lacking_beside_others(
    config: Mapping[str, Any], stack: str, layers: Mapping[int, set[str]], quantized: bool
) -> list[str]:
    """Tensors that a layer lacks and other layers of its kind have, if the layer has no tensor that those lack.

    At least as many must have them: where few layers have more than the others, those few are special.
    """
    kinds: dict[tuple[str, ...], dict[int, frozenset[str]]] = {}
    for i in range(config["num_hidden_layers"]):
        names = (_plain_name(name) for name in layers[i] if not (quantized and name.endswith(".bias")))
        own = frozenset(name for name in names if name is not None)
        kinds.setdefault(_kind_of_layer(config, i), {})[i] = own
    lacking = []
    for alike in kinds.values():
        counts = Counter(alike.values())
        for i, own in alike.items():
            fuller = [other for other, num in counts.items() if own < other and num >= counts[own]]
            if fuller:
                lacking += [f"{stack}.{i}.{name}" for name in sorted(max(fuller, key=len) - own)]
    return lacking


def _plain_name(name: str) -> str | None:
    """A tensor's name as if it were not quantized; None for what only quantization puts there."""
    if _BESIDE.search(name):
        return None
    plain = _PACKED.sub("", name)
    return f"{plain}.weight" if name.endswith((".qweight", ".weight_packed")) else plain


def _kind_of_layer(config: Mapping[str, Any], i: int) -> tuple[str, ...]:
    """The key that distinguishes kinds of layers: entries of per-layer lists in config.json, and shared layers."""
    num_layers = config["num_hidden_layers"]
    lists = [value for key, value in config.items() if isinstance(value, list) and not key.endswith("token_id")]
    kind = [str(value[i]) for value in lists if len(value) == num_layers]
    kind.append(str(i == 0 and config["model_type"] in FIRST_DIFFERS))
    if isinstance(last := config.get(_LAST_SHARE), int):
        kind.append(str(i >= num_layers - last))
    if isinstance(group := config.get(_GROUPS_SHARE), int) and group > 1:
        kind.append(str(i % group))
    return tuple(kind)
