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
    one that gains most in simulation (docs/allocation.md)."""

    kind: str
    """Which policy."""
    introspection: bool = True
    """Whether changed nodes are reborn (IR), and beliefs age, before a round that meets another target."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class DynamicThompsonBandit(BanditSection):
    """Thompson sampling in which the evidence about a child is capped, so that it is about its last rewards."""

    kind: Literal["dynamic_thompson"] = "dynamic_thompson"
    horizon: int = Field(3, ge=1)
    """Credits of each child that count, about."""


class DynabranchesBandit(BanditSection):
    """The paper's: Beta posteriors with Thompson sampling; a node whose window differs from its history is reborn."""

    kind: Literal["dynabranches"] = "dynabranches"
    window: int = Field(20, ge=1)
    """Rewards in a node's sliding window (w)."""
    threshold: float = Field(0.2, ge=0, le=1)
    """A node is reborn when the test's p-value is below this (u)."""


class UniformBandit(BanditSection):
    """Every arm alike, whatever was learned: an ablation."""

    kind: Literal["uniform"] = "uniform"


class GreedyBandit(BanditSection):
    """The largest posterior mean: an ablation."""

    kind: Literal["greedy"] = "greedy"


class DiscountedThompsonBandit(BanditSection):
    """Thompson sampling in which each credit at a node makes the evidence about all its children fade."""

    kind: Literal["discounted_thompson"] = "discounted_thompson"
    discount: float = Field(0.95, gt=0, le=1)
    """What is left of old evidence per credit at the node. 1 forgets nothing."""


class SlidingWindowThompsonBandit(BanditSection):
    """Thompson sampling on a node's last credits alone."""

    kind: Literal["sliding_window_thompson"] = "sliding_window_thompson"
    horizon: int = Field(12, ge=1)
    """Credits of the node that count, those of all its children together."""


class AgedThompsonBandit(BanditSection):
    """Thompson sampling in which the evidence fades whenever the target has new weights."""

    kind: Literal["aged_thompson"] = "aged_thompson"
    discount: float = Field(0.7, gt=0, le=1)
    """What is left of old evidence per new weights. 1 forgets nothing."""


class GlrThompsonBandit(BanditSection):
    """Thompson sampling; a node is reborn by a generalised likelihood-ratio test of its rewards since the last one."""

    kind: Literal["glr_thompson"] = "glr_thompson"
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """The test's error probability (delta)."""
    window: int = Field(200, ge=1, validate_default=True)
    """Rewards in a node's sliding window, in which the test looks for a change."""

    @field_validator("window")
    @classmethod
    def _may_show_a_change(cls, window: int, info: ValidationInfo) -> int:
        rate = info.data.get("false_alarm_rate")
        if rate is not None and window < (needed := smallest_glr_window(rate)):
            rule = f"so few rewards can show no change at bandit.false_alarm_rate = {rate:g}"
            remedy = f"Make it {needed} or more, 100 to 200 for changes of common size."
            raise PydanticCustomError("too_few_rewards", rule, {"remedy": remedy})
        return window


class CorrectedSwblrtBandit(BanditSection):
    """Thompson sampling; a node is reborn by an exact test of its window, corrected for the number of nodes."""

    kind: Literal["corrected_swblrt"] = "corrected_swblrt"
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """The level of all tests before a round together."""
    window: int = Field(40, ge=1)
    """Rewards in a node's sliding window, which is compared with its history."""


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
    """beta(n, delta) = ln(3 n sqrt(n) / delta), nats: what the likelihood ratio of a change has to reach.

    The form that Besson, Kaufmann, Maillard and Seznec (2022), JMLR 23(77), use in their experiments.
    """
    return math.log(3 * num_rewards**1.5 / false_alarm_rate)


def smallest_glr_window(false_alarm_rate: float) -> int:
    """The fewest rewards with which the clearest change, half losses then half wins, reaches the threshold."""
    num_rewards = 2
    while num_rewards * math.log(2) < glr_threshold(num_rewards, false_alarm_rate):
        num_rewards += 2
    return num_rewards
