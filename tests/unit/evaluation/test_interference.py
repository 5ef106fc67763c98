"""Interference against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from bohdi_ray.evaluation.comparing.differences import difference
from bohdi_ray.evaluation.comparing.interference import interference


def changed(gained: int, lost: int, num: int = 100):
    values = np.array([1.0] * gained + [-1.0] * lost + [0.0] * (num - gained - lost))
    return difference([values], [1.0], f"{gained} {lost}")


TASKS = {"better": changed(30, 2), "same": changed(5, 5), "slightly": changed(4, 5), "much": changed(2, 30)}


def test_the_raw_count_and_the_count_beyond_the_interval():
    found = interference(TASKS)
    assert (found.num_tasks, found.num_below, found.num_beyond) == (4, 2, 1)
    assert (found.num_above, found.num_gained) == (1, 1)
    assert found.mean_drop == pytest.approx((0.01 + 0.28) / 2) and found.mean_drop_beyond == pytest.approx(0.28)
    assert [loss.task for loss in found.tasks] == ["much", "slightly", "same", "better"]


def test_what_chance_gives_is_the_binomial_tail():
    found = interference({"a": changed(4, 5), "b": changed(3, 3)})
    # More than half of nine, more than half of six.
    assert found.below_by_chance == pytest.approx(binom.sf(4, 9, 0.5) + binom.sf(3, 6, 0.5))
    assert found.beyond_by_chance < 0.06


def test_unchanged_tasks_are_no_interference():
    found = interference({"a": changed(0, 0)})
    assert (found.num_below, found.num_beyond, found.below_by_chance) == (0, 0, 0)
    assert found.mean_drop is None and found.mean_drop_beyond is None


def test_a_task_with_many_changes_counts_half_by_chance():
    found = interference({"a": changed(600, 601, 5000)})
    assert found.below_by_chance == pytest.approx(0.5)
    assert found.beyond_by_chance == pytest.approx(0.025)


def test_more_questions_find_smaller_drops():
    few, many = (interference({"a": changed(n // 20, n // 20, n)}).tasks[0].detectable for n in (100, 10_000))
    # 2.8 standard errors of a difference whose questions change at a rate of a tenth.
    assert many == pytest.approx(2.8 * np.sqrt(0.1 / 10_000), rel=0.01) and few == pytest.approx(10 * many, rel=0.05)


def test_the_relative_reduction_is_that_of_the_papers_counts():
    fusellm = interference({str(i): changed(0, 1) if i < 5 else changed(1, 0) for i in range(27)})
    clm = interference({str(i): changed(0, 1) if i < 11 else changed(1, 0) for i in range(27)})
    assert (fusellm.num_below, clm.num_below) == (5, 11)
    assert fusellm.less_than(clm) == pytest.approx(1 - 5 / 11)
    assert clm.less_than(interference({"a": changed(1, 0)})) is None
