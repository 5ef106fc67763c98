"""Whether the answer in a rendered conversation can be told from its prompt: what a target's template must allow.

Called by the preflight with what one trial of the template gave. Pure.
"""

from __future__ import annotations

import re

from bohdi_ray.engines.families.table import FAMILIES
from bohdi_ray.engines.template_trial import Trial

# How templates speak of reasoning: the marks of the families, those of others, and the usual switches.
_MARKS = {mark for family in FAMILIES if family.thinking for mark in (family.thinking.start, family.thinking.end)}
_MARKS |= {"<think>", "</think>", "[THINK]", "[/THINK]", "<|START_THINKING|>", "<|END_THINKING|>", "<|channel|>"}
_SWITCH = re.compile(r"\b(enable_thinking|thinking|reasoning_effort)\b")


def knows_reasoning(template: str) -> bool:
    """Whether a template writes, cuts or switches reasoning. Rows of such a target are put together from the prompt and
    the answer, as its engine does it, because past turns are written otherwise than the next one is asked for."""
    return any(mark in template for mark in _MARKS) or _SWITCH.search(template) is not None


def mask_fault(found: Trial, template: str) -> str | None:
    """Why no row of this target could be learned from, as a rule for people; None if all is well."""
    if found.is_stable or knows_reasoning(template):
        return None
    return (
        "its chat template is not prefix-stable: the prompt with the generation prompt is not the beginning of the "
        "conversation with the answer, so answer tokens cannot be told from prompt tokens"
    )
