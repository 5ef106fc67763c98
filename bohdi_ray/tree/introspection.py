"""Introspection-Rebirth: has a domain's reward rate changed since its last rebirth? (method, section 6)

Pure functions of numbers; the manager asks them once before a round whose harvest meets another target.
"""

from __future__ import annotations

import math


def _term(count: float, new: float, old: float) -> float:
    """count * ln(new / old) with 0 ln 0 = 0; infinite where the history rules out what was seen."""
    if count == 0:
        return 0.0
    return math.inf if old <= 0 else count * math.log(new / old)


def swblrt(alpha: float, beta: float, num_wins: int, num_rewards: int) -> tuple[float, float]:
    """Sliding-window binomial likelihood-ratio test: (Lambda, p-value).

    `alpha`, `beta`: the posterior, Beta(1, 1) plus the history, which holds at least the window's rewards;
    `num_wins` (S): sum of the window's rewards; `num_rewards` (n): their number. Raises ValueError without history.
    """
    num_history = alpha + beta - 2
    if num_history <= 0 or not 0 <= num_wins <= num_rewards or num_rewards < 1:
        raise ValueError(f"no test for Beta({alpha}, {beta}) and {num_wins} of {num_rewards} rewards")
    old, new = (alpha - 1) / num_history, num_wins / num_rewards
    statistic = _term(num_wins, new, old) + _term(num_rewards - num_wins, 1 - new, (beta - 1) / num_history)
    statistic = max(0.0, 2 * statistic)  # a likelihood ratio is never negative; rounding may say -1e-15
    # The survival function of chi-square with one degree of freedom, exactly; scipy.stats takes a second to import.
    return statistic, math.erfc(math.sqrt(statistic / 2))
