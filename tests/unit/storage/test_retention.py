"""Checkpoints that anybody may still need are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.run.retention import (
    checkpoints_to_delete,
    delete_checkpoints,
    drop_optimizers,
    rounds_with_optimizer,
)
from bohdi_ray.run.run_dir import RunDir, checkpoint_dir


@pytest.mark.parametrize(
    ("committed", "keep", "needed", "best", "with_optimizer", "expected"),
    [
        ([], 3, [], None, None, []),
        ([0, 1, 2], 3, [], None, None, []),
        ([0, 1, 2, 3, 4], 2, [], None, None, [0, 1, 2]),
        ([0, 1, 2, 3, 4], 2, [0, 2], None, None, [0, 2]),  # version 2 is round 1's, version 0 is no round
        ([0, 1, 2, 3, 4], 2, [], 1, None, [1, 2]),  # version 1 is round 0's
        ([0, 1, 2, 3, 4], 2, [], None, [0, 2], [0, 1]),  # training recovers from round 2
        ([4, 0, 3, 1, 2], 1, [], None, [], [0, 1, 2, 3]),
    ],
)
def test_what_may_go(committed, keep, needed, best, with_optimizer, expected):
    assert checkpoints_to_delete(committed, keep, needed, best, with_optimizer) == expected


@given(
    st.sets(st.integers(0, 30)),
    st.integers(1, 5),
    st.sets(st.integers(0, 31)),
    st.none() | st.integers(0, 31),
    st.none() | st.sets(st.integers(0, 30)),
)
def test_deleting_again_deletes_nothing_more(committed, keep, needed, best, with_optimizer):
    gone = set(checkpoints_to_delete(committed, keep, needed, best, with_optimizer))
    left = committed - gone
    assert checkpoints_to_delete(left, keep, needed, best, with_optimizer) == []
    assert not gone & {version - 1 for version in needed}
    assert len(left) >= min(keep, len(committed))
    assert not committed or max(committed) in left


def test_a_deleted_checkpoint_is_gone_from_the_run(run: RunDir):
    for round in (0, 1):
        run.write_bytes(f"{checkpoint_dir(round)}/weights/w", b"w")
        run.commit(checkpoint_dir(round), {})
    delete_checkpoints(run, [0])
    assert run.names("checkpoints") == ["round-1"] and run.committed_rounds() == [1]
    delete_checkpoints(run, [0])  # a crash may make it happen twice


def test_rounds_with_an_optimizer_state_are_those_whose_folder_has_one(run: RunDir):
    run.write_bytes(f"{checkpoint_dir(0)}/weights/w", b"w")
    run.write_bytes(f"{checkpoint_dir(10)}/optimizer/COMMIT", b"")
    run.write_bytes(f"{checkpoint_dir(2)}/optimizer/COMMIT", b"")
    run.write_bytes(f"{checkpoint_dir(3)}/optimizer/state.pt", b"half written")
    assert rounds_with_optimizer(run, [10, 0, 2, 3]) == [2, 10]


def test_of_the_optimizer_states_one_is_kept_and_all_weights_stay(run: RunDir):
    for round in range(4):
        run.write_bytes(f"{checkpoint_dir(round)}/weights/w", b"w")
        run.write_bytes(f"{checkpoint_dir(round)}/optimizer/state.pt", b"moments")
        run.write_bytes(f"{checkpoint_dir(round)}/optimizer/COMMIT", b"")
        run.commit(checkpoint_dir(round), {})
    # The state of round 3 may be committed without the queue having heard of it: a start would still load that of 2.
    drop_optimizers(run, run.committed_rounds(), resume_round=2)
    drop_optimizers(run, run.committed_rounds(), resume_round=2)  # a crash may make it happen twice
    assert rounds_with_optimizer(run, range(4)) == [2, 3]
    assert run.committed_rounds() == [0, 1, 2, 3] and run.exists(f"{checkpoint_dir(0)}/weights/w")
    assert not run.exists(f"{checkpoint_dir(1)}/optimizer/state.pt")


def test_before_the_first_saved_optimizer_none_is_dropped(run: RunDir):
    run.write_bytes(f"{checkpoint_dir(0)}/optimizer/COMMIT", b"")
    drop_optimizers(run, [0], resume_round=-1)
    assert rounds_with_optimizer(run, [0]) == [0]
