import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from bohdi_ray.config.kinds.bandits import DynabranchesBandit
from bohdi_ray.tree.introspection import swblrts
from bohdi_ray.tree.policies.dynabranches import DynaBranches
from bohdi_ray.tree.policies.policy import Change


def swblrt(*case: float) -> tuple[float, float]:
    """The test of a single domain."""
    statistic, p_value = swblrts(*np.array([case], float).T)
    return float(statistic[0]), float(p_value[0])


@pytest.mark.parametrize(
    ("alpha", "beta", "num_wins", "num_rewards", "statistic", "p_value"),
    [
        (31, 11, 8, 20, 10.953511, 9.342641e-4),
        (31, 11, 15, 20, 0, 1),
        (21, 21, 14, 20, 3.291315, 0.06964722),
        (101, 101, 20, 20, 27.725887, 1.397796e-7),
        (5, 17, 0, 20, 8.925742, 2.811791e-3),
    ],
)
def test_the_likelihood_ratio_equals_the_published_vectors(alpha, beta, num_wins, num_rewards, statistic, p_value):
    found = swblrt(alpha, beta, num_wins, num_rewards)
    assert found == (pytest.approx(statistic, rel=1e-6, abs=1e-9), pytest.approx(p_value, rel=1e-6))


@pytest.mark.parametrize(
    ("alpha", "beta", "num_wins", "expected"),
    [(1, 21, 0, (0, 1)), (21, 1, 20, (0, 1)), (1, 21, 1, (math.inf, 0)), (21, 1, 19, (math.inf, 0))],
)
def test_a_history_without_wins_or_losses_allows_only_its_like(alpha, beta, num_wins, expected):
    assert swblrt(alpha, beta, num_wins, 20) == expected


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 40), st.data())
def test_p_is_the_chi_square_tail_and_the_statistic_never_negative(alpha, beta, num_rewards, data):
    if alpha + beta == 2:
        alpha += 1
    num_wins = data.draw(st.integers(0, num_rewards))
    statistic, p_value = swblrt(alpha, beta, num_wins, num_rewards)
    assert statistic >= 0
    assert p_value == pytest.approx(chi2.sf(statistic, 1), rel=1e-9, abs=1e-300)
    mirrored = swblrt(beta, alpha, num_rewards - num_wins, num_rewards)
    assert mirrored[0] == pytest.approx(statistic, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("arguments", [(1, 1, 1, 2), (3, 3, 5, 4), (3, 3, -1, 4), (3, 3, 0, 0)])
def test_no_history_or_no_window_is_no_test(arguments):
    with pytest.raises(ValueError):
        swblrt(*arguments)


def introspect(threshold: float, window: bytes):
    return DynaBranches(DynabranchesBandit(threshold=threshold)).introspect(
        np.array([31.0]), np.array([11.0]), [window]
    )


def test_a_domain_is_reborn_from_its_window_only_below_the_threshold():
    window = b"\1" * 8 + b"\0" * 12
    assert introspect(0.2, window) == [Change(0, 9, 13, pytest.approx(10.953511), pytest.approx(9.342641e-4, rel=1e-6))]
    assert introspect(1e-4, window) == []
    assert introspect(1.0, b"\1" * 15 + b"\0" * 5) == []
