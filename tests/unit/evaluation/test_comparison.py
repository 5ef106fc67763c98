"""Paired differences and their intervals, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bohdi_ray.evaluation.comparing.differences import Scores, difference, group_weights, paired


def scores(values, first: int = 0) -> Scores:
    return Scores(tuple(f"{first + i}:x" for i in range(len(values))), np.array(values, dtype=float))


def test_differences_are_taken_question_by_question_whatever_their_order():
    one, other = scores([1, 0, 1]), scores([0, 0, 1])
    turned = Scores(other.questions[::-1], other.values[::-1])
    assert paired(one, other).tolist() == paired(one, turned).tolist() == [1, 0, 0]


def test_other_questions_cannot_be_paired():
    with pytest.raises(ValueError, match="same questions"):
        paired(scores([1, 0]), scores([1, 0], first=1))
    with pytest.raises(ValueError, match="same questions"):
        paired(scores([1, 0]), scores([1, 0, 1]))


def test_the_interval_of_many_questions_is_the_normal_one():
    rng = np.random.default_rng(3)
    values = rng.choice([-1.0, 0.0, 1.0], size=2000, p=[0.1, 0.75, 0.15])
    found = difference([values], [1.0], "x")
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.002)
    assert found.high == pytest.approx(values.mean() + half, abs=0.002)
    assert (found.num_gained, found.num_lost) == ((values > 0).sum(), (values < 0).sum())


def test_equal_results_have_an_interval_without_width():
    found = difference([np.zeros(50)], [1.0], "x")
    assert (found.mean, found.low, found.high) == (0, 0, 0) and not found.is_loss and not found.is_gain


def test_an_interval_covers_the_truth_in_95_of_100_cases():
    rng, truth = np.random.default_rng(5), 0.05
    covered = 0
    for trial in range(300):
        values = rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.1, 0.75, 0.15])
        found = difference([values], [1.0], f"trial {trial}")
        covered += found.low <= truth <= found.high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


def test_tasks_of_a_group_keep_their_weights_in_every_resample():
    one, other = np.ones(10), np.zeros(1000)
    assert difference([one, other], [0.5, 0.5], "g").mean == 0.5
    found = difference([one, other], [0.5, 0.5], "g")
    assert (found.low, found.high) == (0.5, 0.5), "neither task varies within itself"
    by_size = group_weights({"one": 10, "other": 1000}, by_size=True)
    assert by_size["one"] == pytest.approx(10 / 1010) and sum(by_size.values()) == pytest.approx(1)
    assert group_weights({"one": 10, "other": 1000}, by_size=False) == {"one": 0.5, "other": 0.5}


def test_the_same_name_draws_the_same_interval():
    values = np.array([1.0, 0, 0, -1, 1, 1, 0, 0])
    assert difference([values], [1.0], "arc") == difference([values], [1.0], "arc")


def test_a_single_question_has_no_standard_error():
    assert scores([1]).standard_error is None
    assert scores([1, 0]).standard_error == pytest.approx(0.5)
