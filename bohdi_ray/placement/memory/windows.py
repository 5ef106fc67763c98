"""The context window of a model: the one that vLLM uses by default, and the largest one it accepts. Pure.

Called by estimate.py and the preflight. The rule is that of vLLM's `_get_and_verify_max_len`:

    own          the smallest of the names in WINDOWS; `model_max_length`, where it is there, alone
    most         own * factor of the scaled positions, but for the kinds whose own window is scaled already
    by itself    most; for longrope the window it was trained with first
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bohdi_ray.config import VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.config_numbers import amount, number
from bohdi_ray.placement.memory.engine_settings import named
from bohdi_ray.records import ROLES

WINDOWS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
LONGROPE = ("su", "longrope")


def most_window(config: Mapping[str, Any]) -> int | None:
    """The largest max_model_len that vLLM accepts, from the language model's settings; None if they do not give it.
    Raises ValueError."""
    own = number(config, "model_max_length")
    own = own or min((found for name in WINDOWS if (found := number(config, name))), default=None)
    if own is None:
        return None
    # Gemma 3's own window is scaled already, whatever kind of scaling it names.
    factor = 1.0 if "gemma3" in str(config.get("model_type")) else _factor(config)
    return max(int(own * factor), number(config, "model_max_length") or 0)


def default_window(config: Mapping[str, Any]) -> int | None:
    """The context window without max_model_len; None if the settings do not give it. Raises ValueError."""
    most = most_window(config)
    if most is not None and any(_kind(rope) in LONGROPE for rope in _ropes(config)):
        return number(config, "original_max_position_embeddings") or most
    return most


def window_errors(at: str, model: VllmModel, default: int | None, most: int | None) -> Iterator[ConfigError]:
    """Errors for a window larger than the model's, and for answers that leave no room for a prompt. `at` is the model's
    path."""
    asked = model.engine.max_model_len
    if asked is not None and most is not None and asked > most:
        remedy = f"Lower it to {most} or leave it out."
        field = f"{at}.{named(model, 'max_model_len')}"
        yield ConfigError(field, asked, f"the model itself reads {most} tokens", remedy)
    window = asked or default
    for role in ROLES if window is not None else ():
        sampling = model.sampling_of(role)
        max_tokens = (sampling.max_tokens or 0) + (sampling.reasoning_max_tokens or 0)
        if window is not None and max_tokens >= window:
            rule = f"leaves no room for a prompt in the window of {window} tokens"
            remedy = f"Lower it, or raise {named(model, 'max_model_len')}."
            yield ConfigError(f"{at}.sampling.{role}.max_tokens", max_tokens, rule, remedy)


def _factor(config: Mapping[str, Any]) -> float:
    """The factor that multiplies the model's own window. If kinds of layers have separate factors, the last one
    counts."""
    factor = 1.0
    for rope in _ropes(config):
        if _kind(rope) not in SCALED_ALREADY:
            factor = amount(rope, "factor") or factor
    return factor


def _ropes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings that scale positions: one, or one per kind of layer."""
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return []
    parts = [part for part in rope.values() if isinstance(part, Mapping)]
    return parts if parts and len(parts) == len(rope) else [rope]


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type"))
