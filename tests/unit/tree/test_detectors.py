"""The tests behind introspection against scipy, and what they promise: level and power."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import bernoulli, chi2, false_discovery_control, hypergeom

from bohdi_ray.config.kinds.bandits import glr_threshold, smallest_glr_window
from bohdi_ray.tree import introspection
from bohdi_ray.tree.introspection import (
    benjamini_hochberg,
    bernoulli_glr,
    count,
    glr_p_values,
    swblrts,
    two_sample_test,
)

windows = st.lists(st.binary(max_size=30).map(lambda b: bytes(x & 1 for x in b)), max_size=8)


def by_formula(alpha: float, beta: float, num_wins: float, num_rewards: float) -> tuple[float, float]:
    """The likelihood-ratio test of one domain, as the method has it."""
    new, old = num_wins / num_rewards, (alpha - 1) / (alpha + beta - 2)
    losses = num_rewards - num_wins
    statistic = xlogy(num_wins, new) + xlogy(losses, 1 - new) - xlogy(num_wins, old) - xlogy(losses, 1 - old)
    return max(0.0, 2 * statistic), chi2.sf(max(0.0, 2 * statistic), 1)


def test_many_domains_get_the_statistic_each_gets_alone():
    cases = [
        (alpha, beta, wins, num)
        for alpha in (1, 2, 11, 31, 400)
        for beta in (1, 5, 21, 1000)
        for num in (1, 7, 20)
        for wins in range(num + 1)
        if alpha + beta > 2
    ]
    statistics, p_values = swblrts(*np.array(cases, float).T)
    expected = np.array([by_formula(*case) for case in cases])
    np.testing.assert_allclose(statistics, expected[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(p_values, expected[:, 1], rtol=1e-6, atol=1e-300)
    assert math.inf in statistics and 0 in p_values


@pytest.mark.parametrize("case", [(1, 1, 1, 2), (3, 3, 5, 4), (3, 3, -1, 4), (3, 3, 0, 0)])
def test_one_impossible_domain_refuses_all(case):
    with pytest.raises(ValueError):
        swblrts(*np.array([(31, 11, 8, 20), case], float).T)


def test_counts_of_windows():
    num_wins, num_rewards = count([b"\1\0\1", b"", b"\0"])
    assert num_wins.tolist() == [2, 0, 0] and num_rewards.tolist() == [3, 0, 1]
    assert count([])[0].shape == (0,)


def log_likelihood(rewards) -> float:
    rate = np.mean(rewards)
    return float(bernoulli.logpmf(rewards, rate).sum()) if 0 < rate < 1 else 0.0


@given(windows)
def test_the_scan_finds_the_split_of_largest_likelihood(some):
    statistics, splits = bernoulli_glr(some)
    for window, statistic, split in zip(some, statistics, splits, strict=True):
        rewards = list(window)
        if len(rewards) < 2:
            assert statistic == -math.inf
            continue
        ratios = [
            log_likelihood(rewards[:s]) + log_likelihood(rewards[s:]) - log_likelihood(rewards)
            for s in range(1, len(rewards))
        ]
        assert statistic == pytest.approx(max(ratios), abs=1e-9)
        assert ratios[split - 1] == pytest.approx(max(ratios), abs=1e-9)


def test_the_scan_of_a_clear_change():
    statistics, splits = bernoulli_glr([b"\0" * 10 + b"\1" * 10, b"\1" * 20, b"\1" * 5 + b"\0" * 15])
    assert statistics == pytest.approx([20 * math.log(2), 0, 20 * math.log(20) - 5 * math.log(5) - 15 * math.log(15)])
    assert splits.tolist() == [10, 1, 5]


@pytest.mark.parametrize("function", ["bernoulli_glr", "two_sample_test"])
def test_chunks_do_not_show(monkeypatch, function):
    rng = np.random.default_rng(0)
    rewards = [rng.integers(0, 2, rng.integers(1, 40)).astype(np.uint8).tobytes() for _ in range(50)]
    wins, num = count(rewards)
    arguments = (rewards,) if function == "bernoulli_glr" else (wins, num, wins[::-1], num[::-1])
    whole = getattr(introspection, function)(*arguments)
    monkeypatch.setattr(introspection, "CHUNK", 7)
    for one, other in zip(whole, getattr(introspection, function)(*arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@given(st.floats(0.001, 0.9), st.integers(2, 500))
def test_the_p_value_of_the_scan_is_the_rate_whose_threshold_it_reaches(rate, num):
    reached = glr_threshold(num, rate)
    assert glr_p_values(np.array([reached]), np.array([num]))[0] == pytest.approx(rate)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
def test_the_smallest_window_is_the_first_that_can_alarm(rate):
    needed = smallest_glr_window(rate)
    assert needed * math.log(2) >= glr_threshold(needed, rate)
    shorter = np.arange(2, needed)
    assert all(num * math.log(2) < glr_threshold(num, rate) for num in shorter if num % 2 == 0)


def exact(new_wins, num_new, old_wins, num_old) -> tuple[float, float, float]:
    """(ratio, mid-p, smallest mid-p) by scipy's hypergeometric distribution, outcome by outcome."""
    wins = new_wins + old_wins

    def ratio(k):
        parts = ((k, num_new), (wins - k, num_old))
        found = 0.0
        for won, num in parts:
            for hits, share in ((won, wins), (num - won, num_new + num_old - wins)):
                if hits:
                    found += 2 * hits * math.log(hits / num / (share / (num_new + num_old)))
        return found

    outcomes = [k for k in range(num_new + 1) if 0 <= wins - k <= num_old]
    if len(outcomes) == 1:
        return 0.0, 1.0, 1.0
    chances = [hypergeom.pmf(k, num_new + num_old, wins, num_new) for k in outcomes]

    def mid_p(seen):
        parts = [(1.0 if r > seen + 1e-7 else 0.5 if r > seen - 1e-7 else 0.0) for r in map(ratio, outcomes)]
        return float(np.dot(parts, chances))

    return ratio(new_wins), mid_p(ratio(new_wins)), mid_p(max(map(ratio, outcomes)))


def test_the_two_sample_test_is_exact():
    rng = np.random.default_rng(1)
    cases = [(0, 20, 0, 50), (20, 20, 50, 50), (5, 20, 0, 0), (0, 0, 3, 5), (20, 20, 0, 20), (14, 20, 20, 40)]
    cases += [
        (rng.integers(num_new + 1), num_new, rng.integers(num_old + 1), num_old)
        for num_new, num_old in ((20, 1), (20, 20), (7, 30), (20, 300))
        for _ in range(12)
    ]
    found = np.array(two_sample_test(*np.array(cases).T))
    np.testing.assert_allclose(found.T, [exact(*map(int, case)) for case in cases], rtol=1e-8, atol=1e-12)
    assert found[0, 0] == 0 and found[1, 0] == 1 and found[2, 0] == 1, "alike rewards can show no change"
    # 14 of 20 against 20 of 40: twice the log likelihood ratio by hand.
    by_hand = 2 * (14 * math.log(0.7 / (34 / 60)) + 6 * math.log(0.3 / (26 / 60)))
    by_hand += 2 * (20 * math.log(0.5 / (34 / 60)) + 20 * math.log(0.5 / (26 / 60)))
    assert found[0, 5] == pytest.approx(by_hand)


def test_with_many_rewards_the_exact_test_is_the_chi_square_test():
    new = np.arange(200, 300, 5)
    statistics, p_values, _ = two_sample_test(new, np.full(20, 500), np.full(20, 1000), np.full(20, 2000))
    np.testing.assert_allclose(p_values, chi2.sf(statistics, 1), rtol=0.1)


@pytest.mark.parametrize("case", [(-1, 20, 3, 9), (21, 20, 3, 9), (3, 9, 2, 1), (3, 9, 0, -1)])
def test_counts_that_are_none_are_refused(case):
    with pytest.raises(ValueError):
        two_sample_test(*np.array([case]).T)


p_lists = st.lists(st.floats(0, 1), max_size=30).map(np.array)


@given(p_lists, st.floats(0.001, 0.5))
def test_benjamini_hochberg_is_scipys(p_values, level):
    expected = false_discovery_control(p_values) <= level if len(p_values) else np.zeros(0, bool)
    # Adjusted p-values a rounding away from the level may fall either way.
    near = np.abs(false_discovery_control(p_values) - level) < 1e-12 if len(p_values) else expected
    assert (near | (benjamini_hochberg(p_values, level) == expected)).all()


@given(p_lists, st.floats(0.001, 0.5), st.floats(0, 1))
def test_smaller_p_values_and_a_higher_level_reject_no_less(p_values, level, factor):
    rejected = benjamini_hochberg(p_values, level)
    assert (benjamini_hochberg(p_values * factor, level) >= rejected).all()
    assert (benjamini_hochberg(p_values, level * factor) <= rejected).all()
    assert (p_values[rejected] <= level).all()


def test_one_hypothesis_is_tested_at_the_level_and_the_first_of_two_at_half():
    assert benjamini_hochberg(np.array([0.05]), 0.05).tolist() == [True]
    assert benjamini_hochberg(np.array([0.03, 0.9]), 0.05).tolist() == [False, False]
    assert benjamini_hochberg(np.array([0.9, 0.025]), 0.05).tolist() == [False, True]
    assert benjamini_hochberg(np.array([0.05, 0.05]), 0.05).tolist() == [True, True]


# Level and power, 20,000 domains, fixed seeds: the bounds are the expected share +- at least 4 standard errors.


def simulated(rate_before, num_before, rate_after, num_after, num=20_000):
    rng = np.random.default_rng(2)
    return rng.binomial(num_before, rate_before, num), rng.binomial(num_after, rate_after, num)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("num_before", [20, 80, 380])
def test_the_exact_test_keeps_its_level(rate, num_before):
    old, new = simulated(rate, num_before, rate, 20)
    sizes = np.full(len(old), 20), np.full(len(old), num_before)
    _, p_values, _ = two_sample_test(new, sizes[0], old, sizes[1])
    # A mid-p may pass the level by a little: never by a fifth in all that was tried.
    for level in (0.01, 0.05, 0.2):
        error = 4 * math.sqrt(level / len(old))
        assert (p_values <= level).mean() <= 1.2 * level + error
    assert (p_values <= 0.2).mean() >= 0.12


@pytest.mark.parametrize(
    ("num_before", "low", "high"), [(0, 0, 0), (20, 0.07, 0.09), (80, 0.14, 0.17), (380, 0.18, 0.21)]
)
def test_the_papers_test_at_02_alarms_the_more_the_longer_the_history(num_before, low, high):
    old, new = simulated(0.5, num_before, 0.5, 20)
    alpha, beta = 1.0 + old + new, 1.0 + num_before + 20 - old - new
    _, p_values = swblrts(alpha, beta, new, np.full(len(new), 20))
    assert low <= (p_values < 0.2).mean() <= high


def test_all_three_see_a_large_change():
    old, new = simulated(0.8, 100, 0.2, 20)
    sizes = np.full(len(old), 20), np.full(len(old), 100)
    assert (two_sample_test(new, sizes[0], old, sizes[1])[1] < 0.001).mean() > 0.97
    assert (swblrts(1.0 + old + new, 121.0 - old - new, new, sizes[0])[1] < 0.001).mean() > 0.94
    rng = np.random.default_rng(3)
    rewards = np.hstack((rng.random((2000, 100)) < 0.8, rng.random((2000, 20)) < 0.2)).astype(np.uint8)
    statistics, splits = bernoulli_glr([row.tobytes() for row in rewards])
    assert (statistics > glr_threshold(120, 0.05)).mean() > 0.75
    assert np.median(np.abs(splits - 100)) <= 2


def test_the_scan_hardly_ever_alarms_without_a_change_though_it_looks_again_and_again():
    rng = np.random.default_rng(4)
    rewards = (rng.random((2000, 200)) < 0.5).astype(np.uint8)
    alarmed = np.zeros(len(rewards), bool)
    for num in range(10, 201, 10):
        statistics, _ = bernoulli_glr([row.tobytes() for row in rewards[:, :num]])
        alarmed |= statistics >= glr_threshold(num, 0.05)
    assert alarmed.mean() <= 0.05
