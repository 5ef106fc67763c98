"""Models that cannot be a target, judged by config.json alone: models that write no text, and those whose weights are
not in a trainable form.

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
    """The model_type of a wrapper's language model as a plain decoder; None if it cannot be trained by itself.

    If a wrapper's own text class takes several positions per token (Qwen's, for images), the table names the plain
    class that computes the same for text, where all positions are equal.
    """
    family = family_of(config)
    return family.text_tower if family is not None else None


def as_published(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config.json of the weights that the engines of this target load: for a wrapper only its language model, and
    plain weights."""
    if is_wrapper(config) and text_tower_of(config):
        return {"model_type": text_tower_of(config)}
    return {key: value for key, value in config.items() if key not in QUANTIZATIONS}


def quantization_of(config: Mapping[str, Any]) -> str | None:
    """The quantization method of a checkpoint's weights; None for plain weights."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in QUANTIZATIONS:
            if isinstance(quantization := part.get(key), Mapping):
                return str(quantization.get("quant_method") or "unknown")
    return None


def target_error(config: Mapping[str, Any], value: object, field: str = "target.model") -> ConfigError | None:
    """Why the model with this config.json cannot be a target; None if this check finds no reason."""
    model_type = config.get("model_type")
    names = [str(name) for name in config.get("architectures") or []]
    if config.get("is_encoder_decoder"):
        rule = f"it is an encoder-decoder model ({model_type}); a target answers after its prompt in one sequence"
        return ConfigError(field, value, rule, "Use a decoder-only model.")
    if any(mark in name for name in names for mark in SCORES):
        rule = f"{names[0]} gives scores or labels, not text"
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
    """Why a target's weights cannot have this number format, as rule and remedy. `stored_as`: None for plain numbers.

    Quantization tools record what they did in files of their own, or nowhere, so the weights themselves are checked.
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
