"""Loads models from folders: complete, or refused with the tensors that are missing.

Called by versions.py, evaluation/heldout_loss.py and the miniature. transformers initialises tensors that a checkpoint
lacks at random and continues; this module refuses instead. Imports torch and transformers inside functions.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bohdi_ray.engines.families.targets import is_wrapper, quantization_of, target_error, text_tower_of
from bohdi_ray.errors import BohdiError, ConfigError, RunDirError
from bohdi_ray.training.weights.attention import attention_for
from bohdi_ray.training.weights.checkpoint_tensors import tensor_files

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
TOWER = "model."  # what a text model's own names begin with


def load_model(folder: str, dtype: Any = "auto", **options: Any) -> Any:
    """The causal language model in a folder that this package wrote, in evaluation mode.

    Raises RunDirError if it is incomplete.
    """
    from transformers import AutoModelForCausalLM

    network, _ = _loaded(AutoModelForCausalLM, folder, _version_error(folder), dtype=dtype, **options)
    return network


@dataclass(frozen=True)
class BaseModel:
    """The target as in its folder; for a wrapper of several modalities only the language model."""

    network: Any
    config: Any  # of the whole model, as transformers reads it
    tower_prefix: str | None  # what a wrapper's checkpoint has in place of `model.`; None for a plain decoder
    head_name: str | None  # a wrapper's name for its language model's head, where it has one

    def own_name(self, name: str) -> str:
        """The name in the text model for a tensor of the checkpoint."""
        if self.tower_prefix is None:
            return name
        if name == self.head_name:
            return HEAD
        if name.startswith(self.tower_prefix):
            return TOWER + name.removeprefix(self.tower_prefix)
        return f"another part: {name}"


def load_base(folder: str, **options: Any) -> BaseModel:
    """The target's own model. Raises ConfigError if it cannot be a target, or its weights are incomplete."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    options = {"trust_remote_code": False, **options}  # unsaid, transformers asks whoever sits at the terminal
    raw = read_config(folder)
    if (error := target_error(raw, folder)) is not None:
        raise error
    try:
        config = AutoConfig.from_pretrained(folder, **options)
    except (ValueError, OSError, TypeError, KeyError) as unknown:
        rule = f"transformers does not know its configuration ({_first_line(unknown)})"
        raise ConfigError("target.model", folder, rule, "Use a model that transformers supports.") from unknown
    broken = _base_error(folder)
    names = sorted(tensor_files(folder, broken))
    if not is_wrapper(raw):
        options |= _unpacked(raw) | {"generation_config": GenerationConfig(), "dtype": "auto"}
        network, info = _loaded(AutoModelForCausalLM, folder, broken, **options)
        _refuse_strange(network, info, raw, broken)
        if quantization_of(raw) is not None:
            network._weight_conversions = None  # those that unpacked it; it is saved as plain numbers
        return BaseModel(network, config, None, None)
    prefix, head = _tower_names(names, broken)
    text = text_config(config, raw, head is not None)
    renaming = {f"^{re.escape(prefix)}": TOWER}
    if head is not None:
        renaming[f"^{re.escape(head)}"] = HEAD
    options |= {"config": text, "key_mapping": renaming, "generation_config": GenerationConfig()}
    with _without_reports():  # of every tensor of the other parts
        network, info = _loaded(AutoModelForCausalLM, folder, broken, dtype=text.dtype or "auto", **options)
    base = BaseModel(network, config, prefix, head)
    own = {name: shape for name, shape in _unexpected(info).items() if name.startswith((prefix, TOWER))}
    strange = [name for name in own if base.own_name(name).startswith(TOWER) and name in names]
    if strange:
        raise broken(f"its configuration does not describe {_some(strange)}")
    # From here on it is a plain text model: what it is saved as has that one's names.
    network._weight_conversions = None
    return base


def text_config(config: Any, raw: Mapping[str, Any], has_head: bool) -> Any:
    """The configuration of a wrapper's language model as a standalone model."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    text = config.get_text_config(decoder=True)
    tower = text_tower_of(raw)
    assert tower is not None, "target_error refuses the others"
    plain = text.to_dict()
    kind = type(text) if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else CONFIG_MAPPING[tower]
    if kind is not type(text):
        plain = _with_plain_rope(plain) | {"model_type": tower}
    own = kind.from_dict(plain)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "dtype"):
        if getattr(own, name, None) is None and getattr(config, name, None) is not None:
            setattr(own, name, getattr(config, name))
    # A wrapper's checkpoint says by its tensors whether there is a head; what its two configurations say differs.
    own.tie_word_embeddings = not has_head
    own.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING[kind].__name__]
    return own


def _with_plain_rope(plain: dict[str, Any]) -> dict[str, Any]:
    """Replaces multi-axis rotary positions by plain ones: text has the same number on all three axes of an image's
    position."""
    rope = dict(plain.get("rope_parameters") or {})
    for name in ("mrope_section", "mrope_interleaved"):
        rope.pop(name, None)
    if rope.get("type") == "mrope":
        rope["type"] = "default"
    if rope.get("rope_type") == "mrope":
        rope["rope_type"] = "default"
    return plain | {"rope_parameters": rope}


def is_tied(network: Any) -> bool:
    """Whether head and embedding are one tensor."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    return head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", None)


def read_config(folder: str) -> dict[str, Any]:
    """config.json of a model's folder. Raises ConfigError if there is none."""
    path = os.path.join(folder, "config.json")
    remedy = "Give the folder of a model in Hugging Face's layout."
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        rule = f"its config.json cannot be read ({error})"
        raise ConfigError("target.model", folder, rule, remedy) from error
    if not isinstance(content, dict):
        raise ConfigError("target.model", folder, "its config.json holds no mapping", remedy)
    return content


# -- what transformers says of loading ---------------------------------------------------------------------------------


def _loaded(kind: Any, folder: str, broken: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model, with its family's attention, and the loading report. Raises the error that `broken` makes from a
    reason if tensors are missing or do not fit."""
    from safetensors import SafetensorError

    config = options.get("config")
    known = read_config(folder) if config is None else config.to_dict()
    options["attn_implementation"] = attention_for(options.get("attn_implementation"), known).name
    try:
        network, info = kind.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except SafetensorError as error:
        raise broken(f"a file of its weights is damaged or cut short ({_first_line(error)})") from error
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise
        raise broken(f"transformers cannot load it ({_first_line(error)})") from error
    if missing := sorted(info["missing_keys"]):
        raise broken(f"its weights do not hold {_some(missing)}, which would be initialised at random")
    if mismatched := sorted(info["mismatched_keys"]):
        shown = [f"{entry[0]} (stored {list(entry[1])}, needed {list(entry[2])})" for entry in mismatched]
        raise broken(f"tensors of its weights have another shape than config.json says: {_some(shown)}")
    return network, info


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    from transformers.utils import logging as reports

    level = reports.get_verbosity()
    reports.set_verbosity_error()
    try:
        yield
    finally:
        reports.set_verbosity(level)


def _unexpected(info: Mapping[str, Any]) -> dict[str, None]:
    return dict.fromkeys(sorted(info["unexpected_keys"]))


def _refuse_strange(network: Any, info: Mapping[str, Any], raw: Mapping[str, Any], broken: Any) -> None:
    """Refuses tensors within the model that its configuration does not describe, because the loaded model would compute
    something else.

    Tensors outside the model (heads for scores, for several tokens at a time) are kept as they are.
    """
    prefix = f"{network.base_model_prefix}."
    num_layers = raw.get("num_hidden_layers")
    strange = []
    for name in _unexpected(info):
        layer = re.match(re.escape(prefix) + r"layers\.(\d+)\.", name)
        ahead = raw.get("num_nextn_predict_layers") and layer and num_layers and int(layer[1]) >= num_layers
        buffer = name.endswith(("inv_freq", ".masked_bias", ".attn.bias", "position_ids"))
        if name.startswith(prefix) and not ahead and not buffer:
            strange.append(name)
    if strange:
        raise broken(f"its configuration does not describe {_some(strange)}")


def _tower_names(names: list[str], broken: Any) -> tuple[str, str | None]:
    """The prefix of the language model's tensors in a wrapper's checkpoint, and the name of its head."""
    prefixes = [name.removesuffix(EMBEDDING) for name in names if name.endswith(EMBEDDING)]
    if len(prefixes) != 1:
        raise broken(f"its weights hold {len(prefixes)} token embeddings where one is needed")
    heads = [name for name in names if name.endswith(HEAD) and not name.startswith("mtp")]
    return prefixes[0], heads[0] if len(heads) == 1 else None


def _unpacked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that load packed weights as plain numbers."""
    if quantization_of(raw) != "mxfp4":
        return {}
    from transformers import Mxfp4Config

    return {"quantization_config": Mxfp4Config(dequantize=True)}


def _base_error(folder: str) -> Any:
    def made(reason: str) -> BohdiError:
        remedy = "Download or save the model again; its files are not those that config.json describes."
        return ConfigError("target.model", folder, reason, remedy)

    return made


def _version_error(folder: str) -> Any:
    def made(reason: str) -> BohdiError:
        return RunDirError(f"the weights in {folder} cannot be used: {reason}. Restore the folder from a copy")

    return made


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
