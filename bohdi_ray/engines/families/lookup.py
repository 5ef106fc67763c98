"""Finds the family of a model in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.engines.families.family import Family
from bohdi_ray.engines.families.table import FAMILIES


def family_of(config: Mapping[str, Any], template: str | None = None) -> Family | None:
    """The family of a model by its config.json; None if it is not in the table.

    Several families may share a configuration class; `template`, the model's chat template, tells them apart. Without
    it the most common of them is returned.
    """
    fitting = [family for family in FAMILIES if config.get("model_type") in family.model_types]
    if template is not None and len(fitting) > 1:
        named = [family for family in fitting if any(mark in template for mark in family.marks)]
        fitting = named or [family for family in fitting if not family.marks] or fitting
    return fitting[0] if fitting else None
