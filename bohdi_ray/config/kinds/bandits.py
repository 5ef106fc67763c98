"""The `bandit` section: one section for each policy, and the table of them.

What a policy does is in the module of its name in `tree/policies/`. A new one is a section here, a line in the table
and that module.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bohdi_ray.config.kinds.by_kind import by_kind
from bohdi_ray.config.section_base import Section


class BanditSection(Section):
    """How credit steers the walks: posteriors and introspection (method, sections 5 and 6). The paper: `dynabranches`.
    The others are challengers from the literature on bandits whose rewards change, and ablations; the default is the
    one with the largest gain in simulation (docs/allocation.md)."""

    kind: str
    """Which policy."""
    introspection: bool = True
    """Whether nodes whose reward rate changed are reborn (IR), and beliefs age, before a round with new target
    weights."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class DynamicThompsonBandit(BanditSection):
    """Thompson sampling in which the evidence about a child is capped, so that its latest rewards dominate."""

    kind: Literal["dynamic_thompson"] = "dynamic_thompson"
    horizon: int = Field(3, ge=1)
    """Approximate number of each child's latest credits that count."""


class DynabranchesBandit(BanditSection):
    """The paper's policy: Beta posteriors with Thompson sampling; a node whose window differs from its history is
    reborn."""

    kind: Literal["dynabranches"] = "dynabranches"
    window: int = Field(20, ge=1)
    """Number of rewards in a node's sliding window (w)."""
    threshold: float = Field(0.2, ge=0, le=1)
    """A node is reborn when the test's p-value is below this (u)."""


class UniformBandit(BanditSection):
    """Chooses every arm with equal probability, whatever was observed: an ablation."""

    kind: Literal["uniform"] = "uniform"


class GreedyBandit(BanditSection):
    """Chooses the arm with the largest posterior mean: an ablation."""

    kind: Literal["greedy"] = "greedy"


class DiscountedThompsonBandit(BanditSection):
    """Thompson sampling in which each credit at a node discounts the evidence about all its children."""

    kind: Literal["discounted_thompson"] = "discounted_thompson"
    discount: float = Field(0.95, gt=0, le=1)
    """The factor by which old evidence shrinks with each credit at the node. 1 forgets nothing."""


class SlidingWindowThompsonBandit(BanditSection):
    """Thompson sampling that uses only a node's latest credits."""

    kind: Literal["sliding_window_thompson"] = "sliding_window_thompson"
    horizon: int = Field(12, ge=1)
    """Number of latest credits at the node that count, over all its children together."""


class AgedThompsonBandit(BanditSection):
    """Thompson sampling in which the evidence is discounted whenever the target has new weights."""

    kind: Literal["aged_thompson"] = "aged_thompson"
    discount: float = Field(0.7, gt=0, le=1)
    """The factor by which old evidence shrinks with each new weights version. 1 forgets nothing."""


class GlrThompsonBandit(BanditSection):
    """Thompson sampling; a node is reborn if a generalised likelihood-ratio test of its rewards since the last rebirth
    finds a change."""

    kind: Literal["glr_thompson"] = "glr_thompson"
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """The test's error probability (delta)."""
    window: int = Field(200, ge=1, validate_default=True)
    """Number of rewards in a node's sliding window, in which the test looks for a change."""

    @field_validator("window")
    @classmethod
    def _may_show_a_change(cls, window: int, info: ValidationInfo) -> int:
        rate = info.data.get("false_alarm_rate")
        if rate is not None and window < (needed := smallest_glr_window(rate)):
            rule = f"with so few rewards no change can be detected at bandit.false_alarm_rate = {rate:g}"
            remedy = f"Make it {needed} or more, 100 to 200 for changes of typical size."
            raise PydanticCustomError("too_few_rewards", rule, {"remedy": remedy})
        return window


class CorrectedSwblrtBandit(BanditSection):
    """Thompson sampling; a node is reborn if an exact test of its window finds a change, corrected for the number of
    nodes."""

    kind: Literal["corrected_swblrt"] = "corrected_swblrt"
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """The false-discovery rate over all tests before a round."""
    window: int = Field(40, ge=1)
    """Number of rewards in a node's sliding window, which is compared with its history."""


BANDITS: dict[str, type[BanditSection]] = by_kind(
    DynamicThompsonBandit,
    DynabranchesBandit,
    UniformBandit,
    GreedyBandit,
    DiscountedThompsonBandit,
    SlidingWindowThompsonBandit,
    AgedThompsonBandit,
    GlrThompsonBandit,
    CorrectedSwblrtBandit,
)


def glr_threshold(num_rewards: float, false_alarm_rate: float) -> float:
    """beta(n, delta) = ln(3 n sqrt(n) / delta), in nats: the threshold that the likelihood ratio must reach to signal a
    change.

    The form that Besson, Kaufmann, Maillard and Seznec (2022), JMLR 23(77), use in their experiments.
    """
    return math.log(3 * num_rewards**1.5 / false_alarm_rate)


def smallest_glr_window(false_alarm_rate: float) -> int:
    """The smallest number of rewards with which the clearest change (first half losses, second half wins) reaches the
    threshold."""
    num_rewards = 2
    while num_rewards * math.log(2) < glr_threshold(num_rewards, false_alarm_rate):
        num_rewards += 2
    return num_rewards
