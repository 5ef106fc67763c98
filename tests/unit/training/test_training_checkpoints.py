"""Committed folders: what has no COMMIT does not exist; where training goes on."""

from __future__ import annotations

import os

import pytest

from bohdi_ray.training.weights.checkpoints import (
    ResumePoint,
    RoundState,
    clear_steps,
    clear_superseded_steps,
    commit_folder,
    committed_rounds,
    is_committed,
    optimizer_dir,
    optimizer_to_load,
    resume_point,
    round_dir,
    start_folder,
    step_dir,
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


def write_step(checkpoints: str, round: int, next_step: int, steps_done: int, commit: bool = True) -> None:
    folder = step_dir(checkpoints, next_step)
    start_folder(folder)
    write_state(folder, RoundState(round, next_step, next_step, round + 1, 1, True, steps_done))
    start_folder(optimizer_dir(folder))
    commit_folder(optimizer_dir(folder))
    if commit:
        commit_folder(folder)


def test_training_goes_on_within_a_round_where_a_step_of_it_is_committed(tmp_path):
    checkpoints = str(tmp_path)
    write_round(checkpoints, 0)
    write_step(checkpoints, 0, 3, 1)
    write_step(checkpoints, 0, 4, 2, commit=False)
    point = resume_point(checkpoints, optimizer_needed=True)
    assert point == ResumePoint(0, 3, 3, 0, steps_done=1) and point.folder(checkpoints) == step_dir(checkpoints, 3)
    assert resume_point(checkpoints, optimizer_needed=False) == point
    assert optimizer_to_load(point.folder(checkpoints), 1) == optimizer_dir(step_dir(checkpoints, 3))
    with pytest.raises(ValueError, match="saved by 1 workers"):
        optimizer_to_load(point.folder(checkpoints), 2)


def test_a_step_counts_until_its_round_is_committed_with_an_optimizer(tmp_path):
    checkpoints = str(tmp_path)
    write_round(checkpoints, 0)
    write_step(checkpoints, 0, 3, 1)
    write_round(checkpoints, 1, has_optimizer=False)
    clear_superseded_steps(checkpoints, optimizer_needed=True)
    assert resume_point(checkpoints, optimizer_needed=True) == ResumePoint(0, 3, 3, 1, steps_done=1)
    start_folder(optimizer_dir(round_dir(checkpoints, 1)))
    commit_folder(optimizer_dir(round_dir(checkpoints, 1)))
    assert resume_point(checkpoints, optimizer_needed=True) == ResumePoint(1, 4, 4, 1)
    clear_superseded_steps(checkpoints, optimizer_needed=True)
    assert not os.path.exists(step_dir(checkpoints, 3)) and is_committed(round_dir(checkpoints, 1))


def test_steps_that_were_never_finished_are_cleared_at_a_start_only(tmp_path):
    checkpoints = str(tmp_path)
    write_step(checkpoints, -1, 1, 1)
    write_step(checkpoints, -1, 2, 2, commit=False)
    clear_superseded_steps(checkpoints, optimizer_needed=True)
    assert os.path.exists(step_dir(checkpoints, 2)), "a trainer may be writing it"
    clear_steps(checkpoints, through=-1, uncommitted=True)
    assert not os.path.exists(step_dir(checkpoints, 2)) and is_committed(step_dir(checkpoints, 1))
    clear_steps(checkpoints)
    assert resume_point(checkpoints, optimizer_needed=True) == ResumePoint()


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
