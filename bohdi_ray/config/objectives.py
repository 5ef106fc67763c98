"""`training.objective`: what is minimised, a section for each kind. Part of sections.py.

`OBJECTIVES` is the table: the file training/objectives/<kind>.py says what an objective does.
"""

from __future__ import annotations

from typing import Literal

from bohdi_ray.config.section_base import Section


class SftConfig(Section):
    """Likelihood of the chosen answer."""

    kind: Literal["sft"] = "sft"
    """Supervised fine-tuning: cross-entropy of the answer's tokens (the paper)."""


OBJECTIVES: dict[str, type[Section]] = {"sft": SftConfig}
ObjectiveConfig = SftConfig
