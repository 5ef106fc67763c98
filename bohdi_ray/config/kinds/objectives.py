"""The `training.objective` section: one section for each objective, and the table of them.

What an objective does is in the module of its name in `training/objectives/`. A new one is a section here, a line in
the table and that module.
"""

from __future__ import annotations

from typing import Literal

from bohdi_ray.config.kinds.by_kind import by_kind
from bohdi_ray.config.section_base import Section


class ObjectiveSection(Section):
    """The training loss."""

    kind: str
    """Which objective."""


class SftObjective(ObjectiveSection):
    """Supervised fine-tuning: cross-entropy of the chosen answer's tokens (the paper)."""

    kind: Literal["sft"] = "sft"


OBJECTIVES: dict[str, type[ObjectiveSection]] = by_kind(SftObjective)
