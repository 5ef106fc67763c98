"""Journal segments are immutable, checked, and forgiving about the last one only."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments, _closed, _opened


def write(run: RunDir, *contents: bytes) -> Segments:
    segments = Segments(run)
    for number, content in enumerate(contents):
        segments.write_segment(number, content)
    return segments


def test_segments_come_back_in_order_from_any_start(run: RunDir):
    segments = write(run, *(b"%d\nline\n" % i for i in range(12)))
    assert [number for number, _ in segments.read_segments().segments] == list(range(12))
    assert segments.read_segments(10).segments == [(10, b"10\nline\n"), (11, b"11\nline\n")]
    assert segments.read_segments(12).segments == []


def test_the_same_content_may_be_written_again_and_another_not(run: RunDir):
    segments = write(run, b"a")
    segments.write_segment(0, b"a")
    with pytest.raises(RunDirError, match="different content"):
        segments.write_segment(0, b"b")
    assert segments.read_segments().segments == [(0, b"a")]


def test_a_damaged_last_segment_is_left_out_reported_and_may_be_written_again(run: RunDir):
    segments = write(run, b"a", b"bcd")
    run.write_bytes("tree/segment-00000001", run.read_bytes("tree/segment-00000001")[:-3])
    read = segments.read_segments()
    assert read.segments == [(0, b"a")]
    assert read.damaged is not None and "segment-00000001" in read.damaged
    segments.write_segment(1, b"new")
    assert segments.read_segments().segments == [(0, b"a"), (1, b"new")]


def test_damage_before_the_last_segment_is_an_error(run: RunDir):
    segments = write(run, b"a", b"b", b"c")
    run.write_bytes("tree/segment-00000001", b"rubbish")
    with pytest.raises(RunDirError, match="segment-00000001 is damaged"):
        segments.read_segments()
    assert segments.read_segments(2).segments == [(2, b"c")]


def test_a_missing_segment_is_an_error(run: RunDir):
    segments = write(run, b"a", b"b", b"c")
    run.delete("tree/segment-00000001")
    with pytest.raises(RunDirError, match="segment-00000001 is missing"):
        segments.read_segments()
    with pytest.raises(RunDirError, match="is missing"):
        segments.read_segments(1)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(), st.data())
def test_any_bytes_survive_and_any_cut_or_flip_is_noticed(content: bytes, data: st.DataObject):
    stored = _closed(content)
    assert _opened(stored) == content
    cut = data.draw(st.integers(0, len(stored) - 1))
    assert _opened(stored[:cut]) is None
    flipped = bytearray(stored)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
    assert _opened(bytes(flipped)) is None
