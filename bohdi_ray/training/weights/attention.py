"""Which of transformers' attention implementations trains a model correctly. Pure: takes a model's config.json.

Called by `bohdi plan` and the preflight, by the learner and by whatever measures the target's weights, so that all of
them compute the same model. What a family needs is in the table of families; a soft cap on attention logits is read
off the configuration too, because any family may set one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bohdi_ray.engines.families import family_of
from bohdi_ray.errors import ConfigError

FIELD = "training.attn_implementation"
KNOWN = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
# sdpa leaves the cap out without a word.
SOFT_CAPPED = ("eager", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")


@dataclass(frozen=True, slots=True)
class Attention:
    """The implementation to load a model with; None: transformers' own choice, sdpa where the model has it."""

    name: str | None
    why: str

    def __str__(self) -> str:
        return f"{self.name or 'sdpa where the model has it'} ({self.why})"


def attention_for(asked: str | None, model_config: Mapping[str, Any]) -> Attention:
    """The implementation to use: the requested one, else by family. Raises ConfigError if the requested one computes
    the model incorrectly."""
    allowed, reason = _allowed(model_config)
    if asked is None:
        return Attention(allowed[0], reason) if allowed else Attention(None, "this model needs no other")
    if asked in KNOWN and allowed and asked not in allowed:
        remedy = f"Leave it out (then it is {allowed[0]}), or use one of {', '.join(allowed)}."
        raise ConfigError(FIELD, asked, reason, remedy)
    return Attention(asked, "as configured")


def check_name(asked: str | None, has_gpus: bool | None) -> None:
    """Refuses a misspelt implementation, and one that needs a GPU where there is none (None: not known).

    Kernels from a hub (`owner/name`) pass: only the workers can know them. Raises ConfigError.
    """
    if asked is None or "/" in asked:
        return
    if asked not in KNOWN:
        close = difflib.get_close_matches(asked, KNOWN, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"Use one of {', '.join(KNOWN)}, or leave it out."
        raise ConfigError(FIELD, asked, "is not an attention implementation of transformers", remedy)
    if asked.startswith("flash_attention") and has_gpus is False:
        raise ConfigError(FIELD, asked, "FlashAttention needs a GPU, and there is none", "Leave it out.")


def _allowed(model_config: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Implementations that compute the model correctly, best first (empty: any), and the reason."""
    family = family_of(model_config)
    text = model_config.get("text_config")
    capped = [part for part in (model_config, text) if isinstance(part, Mapping) and part.get("attn_logit_softcapping")]
    allowed = family.attention if family is not None else ()
    if capped:
        cap = f"{capped[0]['attn_logit_softcapping']:g}"
        reason = f"the model caps its attention logits at {cap}, and sdpa leaves the cap out"
        return tuple(name for name in allowed or SOFT_CAPPED if name in SOFT_CAPPED), reason
    if family is not None and allowed:
        return allowed, f"{family.name} is computed right by {', '.join(allowed)} alone"
    return (), ""
