"""Families that vLLM's CPU build cannot run are refused there by name; on GPUs they start.

Called by `bohdi plan` and by an engine before it loads anything. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.table import family_of
from bohdi_ray.errors import ConfigError


def family_errors(field: str, value: object, config: Mapping[str, Any], device: str) -> list[ConfigError]:
    """What keeps the model of this config.json from running on `device` ("cpu" or "cuda")."""
    family = family_of(config)
    if device != "cpu" or family is None or family.unproved_on_cpu is None:
        return []
    rule = f"{family.name} is unproved here, on a CPU: {family.unproved_on_cpu}"
    remedy = "Run it on a machine with a GPU, or take a family that docs/models.md says runs on a CPU."
    return [ConfigError(field, value, rule, remedy)]
