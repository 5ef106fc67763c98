"""One module for each kind of bandit in the configuration: its `policy` makes a `policy.Policy` from that section.

What all build on is `thompson.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bohdi_ray.config import BANDITS, BanditSection
from bohdi_ray.config.kinds.by_kind import modules_of
from bohdi_ray.tree.policies.policy import Policy

POLICIES: dict[str, Callable[[Any], Policy]] = modules_of(BANDITS, __name__, "policy")


def make_policy(section: BanditSection) -> Policy:
    """The policy of a configuration."""
    return POLICIES[section.kind](section)
