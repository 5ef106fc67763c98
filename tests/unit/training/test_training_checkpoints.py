"""Committed folders: what has no COMMIT does not exist; where training goes on."""

from __future__ import annotations

import pytest

from bohdi_ray.training.checkpoints import (
    ResumePoint,
    RoundState,
    commit_folder,
    committed_rounds,
    is_committed,
    optimizer_dir,
    resume_point,
    round_dir,
    start_folder,
    version_dir,
    write_state,
)


def write_round(checkpoints: str, round: int, has_optimizer: bool = True, commit: bool = True) -> None:
    folder = round_dir(checkpoints, round)
    start_folder(folder)
    write_state(folder, RoundState(round, 2 * (round + 1), 2 * (round + 1), round + 1, 1, has_optimizer))
    if has_optimizer:
        start_folder(optimizer_dir(folder))
        commit_folder(optimizer_dir(folder))
    if commit:
        commit_folder(folder)


def test_a_folder_without_commit_is_ignored_and_may_be_written_again(tmp_path):
    write_round(str(tmp_path), 0)
    write_round(str(tmp_path), 1, commit=False)
    assert [s.round for s in committed_rounds(str(tmp_path))] == [0]
    write_round(str(tmp_path), 1)
    assert [s.round for s in committed_rounds(str(tmp_path))] == [0, 1]


def test_a_committed_folder_is_never_started_again(tmp_path):
    write_round(str(tmp_path), 0)
    with pytest.raises(AssertionError):
        start_folder(round_dir(str(tmp_path), 0))
    assert is_committed(round_dir(str(tmp_path), 0))


def test_training_goes_on_behind_the_newest_round_with_an_optimizer(tmp_path):
    for round, has_optimizer in enumerate([True, True, False, False]):
        write_round(str(tmp_path), round, has_optimizer)
    assert resume_point(str(tmp_path), optimizer_needed=True) == ResumePoint(1, 4, 4, 3)
    assert resume_point(str(tmp_path), optimizer_needed=False) == ResumePoint(3, 8, 8, 3)


def test_rounds_are_ordered_by_number_not_by_name(tmp_path):
    for round in (2, 10, 9):
        write_round(str(tmp_path), round)
    assert [s.round for s in committed_rounds(str(tmp_path))] == [2, 9, 10]


def test_nothing_committed_means_version_zero(tmp_path):
    assert resume_point(str(tmp_path / "none"), True) == ResumePoint()
    assert version_dir("c", 0).endswith("base") and version_dir("c", 3).endswith("round-2")


def test_a_half_written_optimizer_state_does_not_count(tmp_path):
    write_round(str(tmp_path), 0)
    write_round(str(tmp_path), 1, has_optimizer=False)
    start_folder(optimizer_dir(round_dir(str(tmp_path), 1)))
    assert resume_point(str(tmp_path), optimizer_needed=True) == ResumePoint(0, 2, 2, 1)
