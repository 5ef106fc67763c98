"""Rows -> numbered steps -> shares of ranks; the learning rate by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import ScheduleConfig
from bohdi_ray.records import ticket_id
from bohdi_ray.training.feed.steps import cut_round, heldout_of_rank, learning_rate, share_of_rank, step_sizes


def rows(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


@given(st.integers(1, 5000), st.integers(1, 300))
def test_steps_are_as_few_as_fit_and_differ_by_at_most_one_row(num_rows, batch):
    sizes = step_sizes(num_rows, batch)
    assert sum(sizes) == num_rows
    assert len(sizes) == -(-num_rows // batch)
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1


def test_the_papers_round_is_two_steps_of_ninety():
    assert step_sizes(180, 128) == [90, 90]


def test_an_empty_round_is_one_empty_step_so_that_it_still_commits():
    (step,) = cut_round(3, 17, [], rows(2), 8)
    assert (step.step, step.round, step.rows, step.last_of_round, len(step.heldout)) == (17, 3, (), True, 2)


def test_steps_are_numbered_on_and_only_the_last_carries_the_heldout_rows():
    steps = cut_round(1, 5, rows(9), rows(2), 4)
    assert [s.step for s in steps] == [5, 6, 7]
    assert [len(s.rows) for s in steps] == [3, 3, 3]
    assert [s.last_of_round for s in steps] == [False, False, True]
    assert [len(s.heldout) for s in steps] == [0, 0, 2]
    assert [row for s in steps for row in s.rows] == rows(9)


@given(st.integers(0, 200), st.integers(1, 9))
def test_shares_of_all_ranks_are_all_rows_once(num_rows, world_size):
    shares = [share_of_rank(range(num_rows), world_size, rank) for rank in range(world_size)]
    assert sorted(row for share in shares for row in share) == list(range(num_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.sets(st.integers(0, 99_999), max_size=60), st.integers(1, 9))
def test_a_held_out_example_is_always_measured_by_the_same_rank(numbers, world_size):
    ids = [ticket_id(0, 0, number) for number in sorted(numbers)]
    shares = [heldout_of_rank(ids, world_size, rank) for rank in range(world_size)]
    assert sorted(one for share in shares for one in share) == ids
    for rank, share in enumerate(shares):
        assert heldout_of_rank(ids[::2], world_size, rank) == tuple(one for one in share if one in ids[::2])


def test_warm_up_rises_in_equal_parts_to_the_peak():
    schedule = ScheduleConfig(warmup_steps=4)
    assert [learning_rate(s, 1.0, schedule, 100) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_falling_schedules_start_at_the_peak_end_at_the_minimum_and_stay_there(kind):
    schedule = ScheduleConfig(kind=kind, warmup_steps=2, min_ratio=0.1)
    rates = [learning_rate(s, 2.0, schedule, 12) for s in range(20)]
    assert rates[2] == pytest.approx(2.0)
    assert rates[7] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert rates[12:] == [pytest.approx(0.2)] * 8
    assert rates[2:] == sorted(rates[2:], reverse=True)
