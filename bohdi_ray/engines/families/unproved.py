"""Families that vLLM's CPU build cannot run; they are refused on CPUs by name, and allowed on GPUs.

Called by `bohdi plan` and by an engine before it loads anything. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.family import NEEDS_TORCHVISION
from bohdi_ray.engines.families.lookup import family_of
from bohdi_ray.engines.families.targets import is_wrapper, quantization_of
from bohdi_ray.errors import ConfigError

# Of formats of packed weights, by what config.json calls them.
FORMATS = {"mxfp4": "vLLM's CPU build has no kernel for experts in MXFP4"}


def family_errors(field: str, value: object, config: Mapping[str, Any], device: str) -> list[ConfigError]:
    """Why the model with this config.json cannot run on `device` ("cpu" or "cuda")."""
    family = family_of(config)
    if family is not None:
        name, why = family.name, family.unproved_on_cpu
    else:  # of a family that is not in the table only its modalities are known
        name = f"a model of several modalities (model_type {config.get('model_type')!r})"
        why = NEEDS_TORCHVISION if is_wrapper(config) and "vision_config" in config else None
    why = why or FORMATS.get(quantization_of(config) or "")
    if device != "cpu" or why is None:
        return []
    rule = f"{name} is unproved here, on a CPU: {why}"
    remedy = "Run it on a machine with a GPU, or use a family that docs/models.md says runs on a CPU."
    return [ConfigError(field, value, rule, remedy)]
