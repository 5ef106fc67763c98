"""The specification of a simulated world: a YAML file as pydantic models with rules (docs/allocation.md).

The unit of quality is the standard deviation of the random part of one answer: with `noise: 1`, the difference of two
answers of one model to questions of one leaf has a standard deviation of 1.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from bohdi_ray.config import Section
from bohdi_ray.config.errors import config_errors
from bohdi_ray.config.loading import apply_override
from bohdi_ray.errors import ConfigError, ConfigErrors

SHIPPED = Path(__file__).parents[3] / "jobs" / "configs" / "worlds"
SHAPES = (
    "balanced",
    "weak_branch",
    "many_small_gaps",
    "bad_source",
    "abrupt_shift",
    "gradual_shift",
    "unlearnable",
)


class SourceSpec(Section):
    """One source model."""

    level: float = 0.0
    """Mean skill over all leaves, quality units."""
    branch_spread: float = Field(0.3, ge=0)
    """Standard deviation of its skill between main domains."""
    leaf_spread: float = Field(0.2, ge=0)
    """Standard deviation of its skill between leaves of one main domain."""


class RegionSpec(Section):
    """Domains of one level, drawn at random, that differ from the rest of the world."""

    level: int = Field(1, ge=1)
    """Level of the domains drawn; 1 is a main domain."""
    share: float = Field(0.2, gt=0, le=1)
    """Share of the level's domains that are drawn, at least one. Regions never overlap."""
    gap: float | None = None
    """Distance of the target below the best source in all leaves below. Default: the world's."""
    learnable: float | None = Field(None, ge=0, le=1)
    """Share of the way to the ceiling that the target can go there; 0: it learns nothing. Default: the world's."""


class ShiftSpec(Section):
    """Skill that changes without training: a model is swapped, updated or drifts."""

    who: Literal["target", "source"] = "target"
    """Whose skill changes; for `source` the first one's."""
    round: int = Field(..., ge=1)
    """First round whose harvest meets the change (with staleness 0)."""
    over_rounds: int = Field(1, ge=1)
    """Rounds over which it comes, in equal parts; 1 is abrupt."""
    by: float
    """Total change, quality units."""
    level: int = Field(1, ge=1)
    """Level of the domains drawn."""
    share: float = Field(0.2, gt=0, le=1)
    """Share of the level's domains that are drawn, at least one."""


class LearningSpec(Section):
    """How training rows change the target."""

    rate: float = Field(0.03, ge=0, le=1)
    """Share of the distance to the taught skill that one new row closes in its leaf."""
    repeat_worth: float = Field(0.3, ge=0, le=1)
    """Worth of a row that was trained k times before: this to the power of k."""
    own_worth: float = Field(0.2, ge=0, le=1)
    """Worth of a row that teaches the target's own answer."""
    luck_taught: float = Field(0.3, ge=0, le=1)
    """Share of an answer's luck that its row teaches; the rest belongs to the question alone."""
    to_siblings: float = Field(0.2, ge=0, le=1)
    """Strength of the same row in leaves of the same parent."""
    to_cousins: float = Field(0.05, ge=0, le=1)
    """Strength in other leaves of the same main domain."""
    forgetting: float = Field(0.01, ge=0, le=1)
    """Share of what was learned that a leaf loses per round in which none of its rows is trained."""
    overwriting: float = Field(0.0, ge=0, le=1)
    """Share of what it knows at all, learned or from the start, that such a leaf loses besides."""
    ignorance: float = Field(3.0, gt=0)
    """How far below the best source's skill at the start the target lies where it knows nothing."""
    headroom: float = Field(0.3, ge=0)
    """How far above the best source the target's ceiling lies."""
    learnable: float = Field(1.0, ge=0, le=1)
    """Share of the way from its first skill to the ceiling that the target can go."""

    @model_validator(mode="after")
    def _nearer_is_stronger(self) -> LearningSpec:
        if self.to_cousins > self.to_siblings:
            raise ValueError("to_cousins must not exceed to_siblings: nearer domains help more")
        return self


class JudgeSpec(Section):
    """How the judge picks the best answer."""

    noise: float = Field(0.5, ge=0)
    """Standard deviation of the judge's perception of one answer."""
    first_slot_bonus: float = 0.3
    """Added to the perceived quality of the answer shown first (position bias)."""
    order: Literal["shuffled", "target_first"] = "shuffled"
    """`target_first`: the published code."""
    self_preference: float = 0.0
    """Added to the perceived quality of the judging leader's own answer."""
    error_rate: float = Field(0.02, ge=0, le=1)
    """Share of verdicts that are uniformly random."""


class DiscoverySpec(Section):
    """The names that sources propose for new domains."""

    popularity_spread: float = Field(1.0, ge=0)
    """Standard deviation of the log-popularity of siblings: 0 makes all equally likely to be named."""
    invalid_rate: float = Field(0.1, ge=0, lt=1)
    """Share of proposals that are no valid name."""
    synonym_rate: float = Field(0.1, ge=0, lt=1)
    """Share of proposals for leaves that name a leaf by another word: a second arm for the same questions."""


class WorldSpec(Section):
    """A world to fuse in. Every draw from it is keyed by a seed."""

    description: str = ""
    """One line for tables and figures."""
    branching: tuple[int, ...] = (5, 4, 4)
    """Mean number of children by level; as many levels as the tree is deep."""
    branching_spread: float = Field(0.25, ge=0, lt=1)
    """Children are drawn uniformly within this share of the mean, rounded, at least one."""
    sources: tuple[SourceSpec, ...] = (SourceSpec(), SourceSpec(), SourceSpec())
    """The models that teach."""
    gap: float = 1.0
    """Distance of the target below the best source."""
    gap_spread: float = Field(0.2, ge=0)
    """Standard deviation of the gap between leaves."""
    regions: tuple[RegionSpec, ...] = ()
    """Domains that differ."""
    shifts: tuple[ShiftSpec, ...] = ()
    """Changes over time."""
    noise: float = Field(1.0, gt=0)
    """Standard deviation of the luck in one answer, for every model."""
    failure_rate: float = Field(0.03, ge=0, lt=1)
    """Share of tickets that yield no sample."""
    learning: LearningSpec = LearningSpec()
    """How the target learns."""
    judge: JudgeSpec = JudgeSpec()
    """How answers are judged."""
    discovery: DiscoverySpec = DiscoverySpec()
    """How domains are found."""

    @field_validator("branching")
    @classmethod
    def _some_levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("needs at least one level, each with 1 child or more")
        return value

    @field_validator("sources")
    @classmethod
    def _some_sources(cls, value: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        if not value:
            raise ValueError("needs at least one source")
        return value

    @model_validator(mode="after")
    def _levels_exist(self) -> WorldSpec:
        for kind in ("regions", "shifts"):
            for number, part in enumerate(getattr(self, kind)):
                if part.level > len(self.branching):
                    raise ValueError(
                        f"{kind}.{number}.level is {part.level}; branching has {len(self.branching)} levels"
                    )
        return self


def parse_world(data: dict) -> WorldSpec:
    """A world from plain mappings and lists. Raises ConfigErrors: field, value, rule and remedy for each mistake."""
    try:
        return WorldSpec.model_validate(data)
    except ValidationError as error:
        raise ConfigErrors(config_errors(error, WorldSpec)) from None


def load_world(name_or_path: str | Path, overrides: Sequence[str] = ()) -> tuple[str, WorldSpec]:
    """(name, world): a shipped shape by its name, or a YAML file by its path; with overrides like `learning.rate=0.06`.

    Raises ConfigErrors.
    """
    path = Path(name_or_path)
    if str(name_or_path) in SHAPES:
        path = SHIPPED / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml") and not path.exists():
        remedy = f"Use one of {', '.join(SHAPES)}, or the path of a YAML file."
        raise ConfigErrors([ConfigError("WORLD", str(name_or_path), "is neither a shipped world nor a file", remedy)])
    data = _read(path)
    for override in overrides:
        apply_override(data, override)
    return path.stem, parse_world(data)


def _read(path: Path) -> dict:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        rule = f"cannot be read ({error.strerror})"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        rule = "is not YAML: " + " ".join(str(error).split())
    else:
        if isinstance(data, dict):
            return data
        rule = "must hold a mapping of a world's settings"
    remedy = f"Start from one of those in {SHIPPED.name}/, such as balanced.yaml (docs/allocation.md)."
    raise ConfigErrors([ConfigError("WORLD", str(path), rule, remedy)]) from None
