"""Introspection-Rebirth: has a domain's reward rate changed since its last rebirth? (method, section 6)

Pure functions of numbers; policies ask them once before a round whose harvest meets another target. A "win" is a reward
of 1. `swblrts` is the paper's test, `bernoulli_glr` and `two_sample_test` are other policies'. All take many domains in
one call, for a big tree has tens of thousands to test, and need no scipy, whose import takes a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

CHUNK = 4096  # domains whose table of splits or outcomes is in memory at a time


def _each(function: Callable[[float], float], values: np.ndarray) -> np.ndarray:
    """Applies a function of the C library to each value. NumPy uses its own logarithm, exponential and power on
    processors with AVX-512, which differ in the last bit, and a run's tree must not depend on the machine."""
    return np.fromiter(map(function, values.ravel().tolist()), float, values.size).reshape(values.shape)


def _ln(values: np.ndarray) -> np.ndarray:
    """The natural logarithm of numbers of 0 or more."""
    return _each(lambda value: math.log(value) if value > 0 else -math.inf, values)


def count(windows: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(wins, rewards) in each window, whole numbers, shape [n]."""
    num_wins = np.fromiter((window.count(1) for window in windows), np.int64, len(windows))
    return num_wins, np.fromiter(map(len, windows), np.int64, len(windows))


def _chi2_tail(statistic: float) -> float:
    """The survival function of chi-square with one degree of freedom, exactly."""
    return math.erfc(math.sqrt(statistic / 2))


def swblrts(
    alpha: np.ndarray, beta: np.ndarray, num_wins: np.ndarray, num_rewards: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sliding-window binomial likelihood-ratio test of many domains: (Lambda, p-value), all arrays of shape [n].

    `alpha`, `beta`: the posterior, Beta(1, 1) plus the history, which holds at least the window's rewards;
    `num_wins` (S): sum of the window's rewards; `num_rewards` (n): their number. Raises ValueError without history.
    """
    num_history, num_losses = alpha + beta - 2, num_rewards - num_wins
    if ((num_history <= 0) | (num_wins < 0) | (num_losses < 0) | (num_rewards < 1)).any():
        raise ValueError("a test needs history, and 0 to n wins of n >= 1 rewards")
    with np.errstate(divide="ignore", invalid="ignore"):
        wins = num_wins * _ln(num_wins / num_rewards * num_history / (alpha - 1))
        losses = num_losses * _ln(num_losses / num_rewards * num_history / (beta - 1))
    statistic = 2 * (np.where(num_wins == 0, 0.0, wins) + np.where(num_losses == 0, 0.0, losses))
    statistic = np.maximum(statistic, 0.0)  # a likelihood ratio is never negative; rounding may say -1e-15
    return statistic, np.fromiter(map(_chi2_tail, statistic.tolist()), float, len(statistic))


def _entropies(largest: int) -> np.ndarray:
    """k ln k for k = 0 .. `largest`, so that likelihood ratios of counts are sums of table entries."""
    k = np.arange(largest + 1, dtype=float)
    return k * _ln(np.maximum(k, 1))


def bernoulli_glr(windows: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Generalised likelihood ratio of one change in each window, over all places it may lie: (statistic, split).

    The statistic, nats, shape [n]: max over s of s kl(mean of the first s, mean of all) + (N - s) kl(mean of the rest,
    mean of all), with kl of Bernoulli distributions; -inf for fewer than two rewards. `split`: the s that gives it, the
    smallest of equals. Besson, Kaufmann, Maillard and Seznec (2022), JMLR 23(77), section 2.
    """
    statistics, splits = np.full(len(windows), -np.inf), np.zeros(len(windows), np.int64)
    for start in range(0, len(windows), CHUNK):
        part = windows[start : start + CHUNK]
        longest = max(map(len, part))
        if longest < 2:
            continue
        table = _entropies(longest)
        rewards = np.frombuffer(b"".join(window.ljust(longest, b"\0") for window in part), np.uint8)
        wins = rewards.reshape(-1, longest).cumsum(axis=1, dtype=np.int32)
        num, total = np.fromiter(map(len, part), np.int32, len(part))[:, None], wins[:, -1:]
        split = np.arange(1, longest, dtype=np.int32)
        inside = split < num
        rest, before = np.where(inside, num - split, 0), wins[:, :-1]
        after = np.where(inside, total - before, 0)
        ratio = table[before] + table[split - before] - table[split] + table[after] + table[rest - after] - table[rest]
        ratio = np.where(inside, ratio - (table[total] + table[num - total] - table[num]), -np.inf)
        best = ratio.argmax(axis=1)
        statistics[start : start + CHUNK] = np.take_along_axis(ratio, best[:, None], 1)[:, 0]
        splits[start : start + CHUNK] = best + 1
    return statistics, splits


def glr_p_values(statistic: np.ndarray, num_rewards: np.ndarray) -> np.ndarray:
    """The false-alarm rate delta at which the statistic would just reach `glr_threshold`; 1 where that is above 1.

    A bound, not a probability: the test is conservative.
    """
    return np.minimum(1.0, 3 * num_rewards * np.sqrt(num_rewards) * _each(math.exp, -statistic))


def two_sample_test(
    new_wins: np.ndarray, num_new: np.ndarray, old_wins: np.ndarray, num_old: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tests whether two binomial samples have the same rate: (likelihood ratio 2 ln L, mid-p, smallest possible mid-p),
    shape [n].

    The mid-p is P(ratio > seen) + P(ratio = seen) / 2 in the hypergeometric distribution of the new wins, all wins
    given. Whole numbers in; ValueError if they are no counts. Where a sample is empty, or all rewards are alike, there
    is one possible outcome: 0, 1, 1.
    """
    counts = np.array([new_wins, num_new, old_wins, num_old], np.int64)
    if (counts < 0).any() or (counts[0] > counts[1]).any() or (counts[2] > counts[3]).any():
        raise ValueError("a test needs 0 or more rewards, and no more wins than rewards")
    largest = int((counts[1] + counts[3]).max(initial=1))
    entropies = _entropies(largest)
    factorials = np.concatenate(([0.0], _ln(np.arange(1, largest + 1)).cumsum()))
    found = np.empty((3, counts.shape[1]))
    for start in range(0, counts.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        found[:, part] = _two_sample_tests(counts[:, part], entropies, factorials)
    return found[0], found[1], found[2]


def _two_sample_tests(counts: np.ndarray, entropies: np.ndarray, factorials: np.ndarray) -> np.ndarray:
    """`two_sample_test` of a chunk: shape [3, n] from [4, n]. The tables are k ln k and ln k!."""
    seen, n, old_wins, m = counts[:, :, None]
    wins = seen + old_wins
    outcome = np.arange(int(n.max()) + 1)  # new wins
    possible = (outcome >= wins - m) & (outcome <= np.minimum(n, wins))
    k = np.where(possible, outcome, seen)

    def split(table: np.ndarray, num: np.ndarray, wins: np.ndarray) -> np.ndarray:
        return table[wins] + table[num - wins] - table[num]

    ratio = 2 * (split(entropies, n, k) + split(entropies, m, wins - k) - split(entropies, n + m, wins))
    log_p = split(factorials, n + m, wins) - split(factorials, n, k) - split(factorials, m, wins - k)
    weight = _each(math.exp, np.where(possible, log_p, -math.inf))

    def mid_p(bound: np.ndarray) -> np.ndarray:
        margin = 1e-9 * np.maximum(1.0, bound)  # ratios this close are the same one, rounded
        return (weight * (ratio > bound + margin) + weight * (np.abs(ratio - bound) <= margin) / 2).sum(axis=1)

    ratio_seen = np.take_along_axis(ratio, seen, 1)
    alone = possible.sum(axis=1) == 1
    return np.where(
        alone,
        [[0.0], [1.0], [1.0]],
        [np.maximum(ratio_seen[:, 0], 0.0), mid_p(ratio_seen), mid_p(ratio.max(axis=1, keepdims=True))],
    )


def benjamini_hochberg(p_values: np.ndarray, level: float) -> np.ndarray:
    """Which of n hypotheses are rejected at this false discovery rate, shape [n].

    Benjamini and Hochberg (1995), JRSS B 57, 289-300: all up to the largest i whose i-th smallest p <= level i / n.
    """
    ordered = np.sort(p_values)
    passed = ordered[ordered <= level * np.arange(1, len(ordered) + 1) / max(len(ordered), 1)]
    return p_values <= passed.max(initial=-1.0)
