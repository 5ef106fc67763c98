"""The `questions` section: one section for each source of questions, and the table of them.

What a source does is in the module of its name in `questions/`. A new one is a section here, a line in the table and
that module.
"""

from __future__ import annotations

from typing import Literal

from bohdi_ray.config.kinds.by_kind import by_kind
from bohdi_ray.config.section_base import Section


class QuestionsSection(Section):
    """Where a ticket's question comes from (method, section 4)."""

    kind: str
    """Which source."""


class AskedQuestions(QuestionsSection):
    """A leader drawn among the sources writes it, in one of `harvest.styles` (the paper)."""

    kind: Literal["asked"] = "asked"


QUESTIONS: dict[str, type[QuestionsSection]] = by_kind(AskedQuestions)
