"""The `questions` section: one section for each source of questions, and the table of them.

What a source does is in the module of its name in `questions/`. A new one is a section here, a line in the table and
that module.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bohdi_ray.config.addresses import secret_in
from bohdi_ray.config.kinds.by_kind import by_kind
from bohdi_ray.config.section_base import Section


class QuestionsSection(Section):
    """Where a ticket's question comes from (method, section 4)."""

    kind: str
    """Which source."""


class AskedQuestions(QuestionsSection):
    """A leader drawn among the sources writes it, in one of `harvest.styles` (the paper)."""

    kind: Literal["asked"] = "asked"


class CorpusQuestions(QuestionsSection):
    """Rows of files: a leaf's n-th ticket takes the n-th of its rows, in seeded order. The domain columns are the tree,
    which does not grow."""

    kind: Literal["corpus"]
    files: tuple[str, ...] = Field(min_length=1)
    """JSON Lines (.jsonl, .ndjson) and Parquet (.parquet): paths, patterns with `*`, addresses, all visible from every
    node. `./…` is beside the configuration file."""
    prompt: str = "prompt"
    """Column with the prompt: a text, or the turns of a conversation, of which those up to the last user turn are the
    prompt."""
    domains: tuple[str, ...] = ()
    """Columns with the names of the domains, from the main domain to the leaf. Default: one leaf has all rows."""
    document: str | None = None
    """Column by which rows belong together: those of one value are all held out, or none of them is. Default: rows
    with the same prompt do."""
    max_chars: int = Field(100_000, ge=1)
    """Characters that a prompt may have; a row with a longer one is not used."""
    epochs: int = Field(1, ge=1)
    """Number of times that every row may be drawn. When all were, the run ends."""

    @field_validator("files")
    @classmethod
    def _without_secrets(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if secret := next((secret for file in files if (secret := secret_in(file))), None):
            raise ValueError(f"it contains {secret}; credentials come from the environment, or from the machine")
        return files


QUESTIONS: dict[str, type[QuestionsSection]] = by_kind(AskedQuestions, CorpusQuestions)
