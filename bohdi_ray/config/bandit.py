"""The `bandit` section: which policy, and the settings each policy has. Part of fusion_config.py.

`OWN_DEFAULTS` is the one place that says which settings a policy uses and where its default differs from the field's.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bohdi_ray.config.section_base import Section
from bohdi_ray.errors import ConfigError

PolicyName = Literal[
    "dynabranches",
    "uniform",
    "greedy",
    "discounted_thompson",
    "dynamic_thompson",
    "sliding_window_thompson",
    "aged_thompson",
    "glr_thompson",
    "corrected_swblrt",
]
DEFAULT_POLICY: PolicyName = "dynamic_thompson"
# By policy: the settings it uses, and its default where that is not the field's (None: it is).
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "dynabranches": {"window": None, "threshold": None},
    "uniform": {},
    "greedy": {},
    "discounted_thompson": {"discount": None},
    "dynamic_thompson": {"horizon": None},
    "sliding_window_thompson": {"horizon": 12},
    "aged_thompson": {"discount": 0.7},
    "glr_thompson": {"window": 200, "false_alarm_rate": None},
    "corrected_swblrt": {"window": 40, "false_alarm_rate": None},
}
# Settings that belong to some policies only. `window` too: the others keep rewards just to show them.
PARAMETERS = ("window", "threshold", "discount", "horizon", "false_alarm_rate")


class BanditConfig(Section):
    """Posteriors and introspection (method, sections 5 and 6)."""

    policy: PolicyName = DEFAULT_POLICY
    """How credit steers the walks. The paper: `dynabranches`, Beta posteriors with Thompson sampling and rebirth. The
    others are challengers from the literature on bandits whose rewards change, and ablations; the default is the one
    that gains most in simulation (docs/allocation.md). A setting below that the policy does not use must keep its
    default."""
    introspection: bool = True
    """Whether changed nodes are reborn (IR), and beliefs age, before a round that meets another target."""
    window: int = Field(20, ge=1)
    """Rewards in a node's sliding window (w). For `dynabranches`, `corrected_swblrt` (there 40)
    and `glr_thompson` (there 200)."""
    threshold: float = Field(0.2, ge=0, le=1)
    """`dynabranches`: a node is reborn when the test's p-value is below this (u)."""
    discount: float = Field(0.95, gt=0, le=1)
    """What is left of old evidence. `discounted_thompson`: per credit at the node; `aged_thompson`: per new weights,
    and there 0.7 unless set. 1 forgets nothing."""
    horizon: int = Field(3, ge=1)
    """Credits that count. `dynamic_thompson`: about how many of each child; `sliding_window_thompson`: the node's last
    ones, all children together, and there 12 unless set."""
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """`glr_thompson`: the test's error probability (delta); `corrected_swblrt`: the level of all tests before a round
    together."""

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, data: Any) -> Any:
        """Fills in the policy's own defaults; a null counts as not set."""
        if not isinstance(data, dict):
            return data
        policy = data.get("policy", DEFAULT_POLICY)
        own = OWN_DEFAULTS.get(policy, {}) if isinstance(policy, str) else {}
        given = {key: value for key, value in data.items() if value is not None or key not in PARAMETERS}
        return {key: value for key, value in own.items() if value is not None} | given

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run's stored configuration holds no setting that the policy does not use: were its default another one in
        a later version, that would refuse the run."""
        used = OWN_DEFAULTS[self.policy]
        return {name: value for name, value in serialize(self).items() if name not in PARAMETERS or name in used}

    def used(self) -> dict[str, float]:
        """The policy's own settings and their values."""
        return {name: getattr(self, name) for name in OWN_DEFAULTS[self.policy]}


def errors_of_bandit(bandit: BanditConfig) -> list[ConfigError]:
    """Settings that the policy does not use, or cannot work with."""
    errors = []
    used = OWN_DEFAULTS[bandit.policy]
    for name in PARAMETERS:
        value, default = getattr(bandit, name), BanditConfig.model_fields[name].default
        if name not in used and value != default:
            users = " and ".join(policy for policy, settings in OWN_DEFAULTS.items() if name in settings)
            rule = f"the policy {bandit.policy} has no such setting; {users} use it"
            errors.append(
                ConfigError(f"bandit.{name}", value, rule, "Leave it out, or set bandit.policy to one of them.")
            )
    if bandit.policy == "glr_thompson":
        needed = smallest_glr_window(bandit.false_alarm_rate)
        if bandit.window < needed:
            rule = f"so few rewards can show no change at bandit.false_alarm_rate = {bandit.false_alarm_rate:g}"
            remedy = f"Make it {needed} or more, 100 to 200 for changes of common size."
            errors.append(ConfigError("bandit.window", bandit.window, rule, remedy))
    return errors


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
