"""The simulated judge: its closed form against known values and against its draws."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from bohdi_ray.randomness import generator
from bohdi_ray.studies.simulation.judge import JudgeDraws, loss_probability, win_probabilities
from bohdi_ray.studies.simulation.judge_bias import reward_rates
from bohdi_ray.studies.simulation.world_spec import JudgeSpec, WorldSpec

FAIR = JudgeSpec(noise=0.0, first_slot_bonus=0.0, error_rate=0.0)


def spec(**changes) -> JudgeSpec:
    return JudgeSpec.model_validate({**FAIR.model_dump(), **changes})


def loss(sources, target, noise=1.0, judge=FAIR) -> float:
    return float(loss_probability(np.array(sources)[:, None], np.array([target]), noise, judge)[0])


def test_equals_win_equally_often():
    assert loss([0.0] * 3, 0.0) == pytest.approx(0.75)
    assert loss([0.0], 0.0) == pytest.approx(0.5)


def test_one_source_is_a_difference_of_two_normal_variables():
    wins = NormalDist().cdf((0.4 - 1.0) / math.sqrt(2 * (1.0 + 0.25)))
    assert loss([1.0], 0.4, judge=spec(noise=0.5)) == pytest.approx(1 - wins)


def test_the_first_slot_favours_the_target_by_its_bonus_when_it_is_always_there():
    judge = spec(first_slot_bonus=0.8, order="target_first")
    assert loss([1.0, 0.5], 0.2, judge=judge) == pytest.approx(loss([1.0, 0.5], 1.0))


def test_shuffling_takes_the_bias_out_of_level_contests_and_only_blurs_others():
    shuffled = spec(first_slot_bonus=1.5)
    assert loss([0.0] * 3, 0.0, judge=shuffled) == pytest.approx(0.75)
    halves = (NormalDist().cdf((1.5 - 1) / math.sqrt(2)) + NormalDist().cdf((-1.5 - 1) / math.sqrt(2))) / 2
    assert loss([1.0], 0.0, judge=shuffled) == pytest.approx(1 - halves)
    assert loss([0.0] * 3, -1.0, judge=shuffled) < loss([0.0] * 3, -1.0)


def test_an_error_is_a_uniform_guess():
    assert loss([50.0] * 3, 0.0, judge=spec(error_rate=0.2)) == pytest.approx(0.8 + 0.2 * 0.75)


def test_self_preference_helps_sources_that_lead():
    assert loss([0.0] * 3, 0.0, judge=spec(self_preference=1.0)) > 0.8


def test_win_probabilities_add_up_and_agree_with_the_loss():
    rng = np.random.default_rng(0)
    skills = rng.normal(0, 1.5, (4, 30))
    judge = spec(noise=0.4, first_slot_bonus=0.7, self_preference=0.3, error_rate=0.05)
    wins = win_probabilities(skills, 1.0, judge)
    assert np.allclose(wins.sum(axis=0), 1)
    assert np.allclose(1 - wins[-1], loss_probability(skills[:-1], skills[-1], 1.0, judge))


@pytest.mark.parametrize("order", ["shuffled", "target_first"])
def test_draws_follow_the_closed_form(order):
    judge = spec(noise=0.5, first_slot_bonus=0.6, self_preference=0.4, error_rate=0.1, order=order)
    skills = np.array([0.3, -0.2, 0.5, 0.1])
    winners = JudgeDraws(generator(1, "test"), 40_000, 4).winners(np.tile(skills, (40_000, 1)), 1.0, judge)
    shares = np.bincount(winners, minlength=4) / 40_000
    expected = win_probabilities(skills[:, None], 1.0, judge)[:, 0]
    assert np.abs(shares - expected).max() < 4 * math.sqrt(0.25 / 40_000)


def test_reward_falls_by_the_published_order_and_not_by_a_shuffled_one():
    level = np.array([0.0])
    assert reward_rates(WorldSpec(), "shuffled", 1.0, level)[0] == pytest.approx(0.75)
    assert reward_rates(WorldSpec(), "target_first", 1.0, level)[0] < 0.5
