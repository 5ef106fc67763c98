"""Totals and overlaps of phases count time, not spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.observe.intervals import Intervals

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=8)


def test_overlapping_spans_of_a_phase_count_once():
    intervals = Intervals()
    for start, end in [(0, 10), (5, 12), (20, 21), (6, 7)]:
        intervals.record("harvest", start, end)
    assert intervals.total("harvest") == 13


def test_overlap_of_two_phases():
    intervals = Intervals()
    intervals.record("harvest", 0, 10)
    intervals.record("training", 8, 12)
    assert intervals.overlap("harvest", "training") == 2
    assert intervals.overlap_share("harvest", "training") == 0.5


def test_a_phase_that_never_ran_has_no_time_and_no_share():
    intervals = Intervals()
    intervals.record("harvest", 0, 10)
    assert intervals.total("training") == intervals.overlap("harvest", "training") == 0
    assert intervals.overlap_share("harvest", "training") is None


@given(SPANS, SPANS)
def test_totals_and_overlap_equal_a_count_of_seconds(first, second):
    intervals = Intervals()
    seconds: dict[str, set[int]] = {"a": set(), "b": set()}
    for phase, spans in (("a", first), ("b", second)):
        for start, end in spans:
            intervals.record(phase, start, end)
            seconds[phase].update(range(start, end))
    assert intervals.total("a") == len(seconds["a"])
    assert intervals.overlap("a", "b") == intervals.overlap("b", "a") == len(seconds["a"] & seconds["b"])


def test_an_end_before_the_start_is_our_bug():
    with pytest.raises(AssertionError):
        Intervals().record("harvest", 2, 1)
