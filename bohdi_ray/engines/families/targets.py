"""What cannot be a target, by its config.json alone: models that write no text, and those whose weights are not there
to be trained.

Called by `bohdi plan` and before the target is loaded. Wrappers of several modalities are known by the table, other
models by what the transformers that is installed knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.known import transformers_types
from bohdi_ray.engines.families.lookup import family_of
from bohdi_ray.engines.families.table import FAMILIES
from bohdi_ray.errors import ConfigError

# Parts of a config.json that only a wrapper of several modalities has.
PARTS = ("vision_config", "audio_config", "speech_config", "text_config", "llm_config", "thinker_config")
SCORES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "RewardModel")
QUANTIZATIONS = ("quantization_config", "compression_config")  # where a config.json tells of it
DEQUANTIZED = frozenset({"mxfp4"})  # read as bfloat16 and trained and published as that


def is_wrapper(config: Mapping[str, Any]) -> bool:
    """Whether a model is a language model with other modalities around it."""
    return any(isinstance(config.get(part), Mapping) for part in PARTS)


def text_tower_of(config: Mapping[str, Any]) -> str | None:
    """The model_type of a wrapper's language model as a plain decoder; None where it cannot be trained by itself.

    Where a wrapper's own text class takes several positions a token (Qwen's for images), the table names the plain
    class that computes the same for text, where all positions are equal.
    """
    family = family_of(config)
    return family.text_tower if family is not None else None


def as_published(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config.json that says which family the engines of this target get: of a wrapper its language model alone, and
    plain weights."""
    if is_wrapper(config) and text_tower_of(config):
        return {"model_type": text_tower_of(config)}
    return {key: value for key, value in config.items() if key not in QUANTIZATIONS}


def quantization_of(config: Mapping[str, Any]) -> str | None:
    """The method a checkpoint's weights are packed with; None for plain ones."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in QUANTIZATIONS:
            if isinstance(quantization := part.get(key), Mapping):
                return str(quantization.get("quant_method") or "unknown")
    return None


def target_error(config: Mapping[str, Any], value: object, field: str = "target.model") -> ConfigError | None:
    """Why the model of this config.json cannot be a target; None for one that can, as far as this tells."""
    model_type = config.get("model_type")
    names = [str(name) for name in config.get("architectures") or []]
    if config.get("is_encoder_decoder"):
        rule = f"it is an encoder-decoder model ({model_type}); a target answers after its prompt in one sequence"
        return ConfigError(field, value, rule, "Use a decoder-only model.")
    if any(mark in name for name in names for mark in SCORES):
        rule = f"{names[0]} gives scores or labels, no text"
        return ConfigError(field, value, rule, "Use a model that was saved as a causal language model (…ForCausalLM).")
    if is_wrapper(config) and text_tower_of(config) is None:
        known = "; ".join(family.name for family in FAMILIES if family.text_tower is not None)
        rule = f"{names[0] if names else model_type} wraps its language model in one of several modalities"
        rule += f", and of model_type {model_type!r} the language model cannot be trained by itself"
        return ConfigError(field, value, rule, f"Use a text model, or one of these wrappers: {known}.")
    method = quantization_of(config)
    if method is not None and method not in DEQUANTIZED:
        return ConfigError(field, value, *_quantized(method))
    return _unknown_type(config, field, value)


def stored_fault(config: Mapping[str, Any], stored_as: str | None) -> tuple[str, str] | None:
    """Why weights of this number format cannot be a target's, as rule and remedy. `stored_as`: None for plain numbers.

    Tools write what they did to the weights into files of their own, or nowhere; the weights themselves tell.
    """
    if stored_as is None or quantization_of(config) is not None:  # `target_error` says it of the latter
        return None
    return _quantized(f"stored as {stored_as}")


def _quantized(how: str) -> tuple[str, str]:
    rule = f"its weights are quantized ({how}), and quantized weights cannot be trained"
    return rule, "Use the bfloat16 or float16 variant of the model."


def _unknown_type(config: Mapping[str, Any], field: str, value: object) -> ConfigError | None:
    """transformers loads and trains a target by its own classes. A config.json without model_type is its affair."""
    model_type, known = config.get("model_type"), transformers_types()
    if model_type is None or not known or model_type in known:
        return None
    rule = f"transformers does not know its model_type {model_type!r}"
    if config.get("auto_map"):
        rule += ", and the code that its publisher wrote for it is not run for a target"
    return ConfigError(field, value, rule, "Use a model that transformers supports.")
