"""The `judge` section: one section for each judge, and the table of them.

What a judge does is in the module of its name in `harvest/judges/`. A new one is a section here, a line in the table
and that module.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bohdi_ray.config.kinds.by_kind import by_kind
from bohdi_ray.config.section_base import Section

MOST_ANSWERS = 26  # that letters can name
NOT_ONES_OWN = "the only source would have to judge its own answer"


class JudgeSection(Section):
    """Who decides which answer is best (method, sections 4 and 9)."""

    needs_two: ClassVar[str] = ""
    """Why the judge needs at least two sources; empty if one is enough."""
    names_letter: ClassVar[bool] = False
    """Whether the judge names an answer by a letter, of which there are `MOST_ANSWERS`."""
    scores_answers: ClassVar[bool] = False
    """Whether the judge needs the likelihood of a given answer, which no remote server provides."""

    kind: str
    """Which judge."""


class LabelJudge(JudgeSection):
    """A judge that reads all answers and names the best one's letter."""

    names_letter = True

    orders: int = Field(1, ge=1)
    """Number of rotations of one random order over which label probabilities are averaged; as many as there are answers
    puts each answer into every slot."""


class LeaderJudge(LabelJudge):
    """The question's author judges (the paper)."""

    kind: Literal["leader"] = "leader"


class OthersJudge(LabelJudge):
    """Every source judges the answers that it did not write, so none judges its own."""

    needs_two = NOT_ONES_OWN

    kind: Literal["others"] = "others"


class LikelihoodJudge(JudgeSection):
    """Each model ranks the answers it did not write by log-probability per byte; the mean rank decides."""

    needs_two = "the only source and the target would rank one answer each, the other's: ties, which the source wins"
    scores_answers = True

    kind: Literal["likelihood"] = "likelihood"


class ConsensusJudge(JudgeSection):
    """The answer with the highest mean probability per byte under the sources, without its author, wins."""

    needs_two = NOT_ONES_OWN
    scores_answers = True

    kind: Literal["consensus"] = "consensus"


JUDGES: dict[str, type[JudgeSection]] = by_kind(
    LeaderJudge,
    OthersJudge,
    LikelihoodJudge,
    ConsensusJudge,
)
