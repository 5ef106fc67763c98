"""Resuming a run: what is refused, what is cleared, what is remembered. On plain files and on S3."""

import json
import logging
import time

import pytest
from driven import driven

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.resume import ResumeRequest, note_resumption, recover, reopen, with_schedule
from bohdi_ray.errors import ConfigErrors, RunDirError
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.run_dir import BEST, SUMMARY, TARGET, RunDir
from bohdi_ray.run.state import PROGRESS, DriverState, TrainedRound, read_state, write_state
from bohdi_ray.training.weights.checkpoints import (
    RoundState,
    commit_folder,
    optimizer_dir,
    optimizer_to_load,
    resume_point,
    round_dir,
    start_folder,
)
from bohdi_ray.training.weights.checkpoints import (
    write_state as write_round_state,
)

MODEL = {"kind": "vllm", "model": "/m"}


def config(run, **sections) -> FusionConfig:
    plain = {"sources": [{"name": "ada", **MODEL}], "target": {"name": "target", **MODEL}, **sections}
    return FusionConfig.model_validate({"run_dir": str(run), "observe": {"console": "quiet"}, **plain})


@pytest.fixture(params=["local", "s3"])
def run(request, tmp_path) -> RunDir:
    location = str(tmp_path / "run") if request.param == "local" else request.getfixturevalue("s3_address")
    return RunDir.create(location, config(location), {})


def commit_round(run: RunDir, round: int, workers: int = 1, with_optimizer: bool = True) -> str:
    folder = round_dir(run.address("checkpoints"), round)
    start_folder(folder)
    write_round_state(folder, RoundState(round, round + 1, round + 1, round + 1, workers, False))
    commit_folder(folder)
    if with_optimizer:
        start_folder(optimizer_dir(folder))
        commit_folder(optimizer_dir(folder))
    return folder


def ended(run: RunDir, reason: str) -> None:
    run.write_bytes(SUMMARY, json.dumps({"stop_reason": reason}).encode())
    for folder in (TARGET, BEST):
        run.write_bytes(f"{folder}/config.json", b"{}")
        if not run.is_local:
            run.commit(folder, {})


@pytest.mark.parametrize(
    ("reason", "stop", "remedy"),
    [
        ("stop.rounds = 3", {"rounds": 3}, "stop.rounds=6"),
        ("stop.samples = 500", {"samples": 500}, "stop.samples=1000"),
        ("stop.wall_time_s = 60", {"wall_time_s": 60.0}, "stop.wall_time_s=120"),
        ("stop.no_gain_rounds = 2", {"no_gain_rounds": 2}, "stop.no_gain_rounds=4"),
    ],
)
def test_a_run_that_has_ended_names_the_rule_to_raise(tmp_path, reason, stop, remedy):
    run = RunDir.create(tmp_path / "run", config(tmp_path / "run", stop=stop), {})
    ended(run, reason)
    with pytest.raises(RunDirError, match=remedy):
        reopen(run.config())


def test_a_run_gone_on_with_has_not_ended_any_more(run):
    ended(run, "stop.rounds = 20")
    longer = config(run.location, stop={"rounds": 40})
    _, changes = reopen(longer)
    note_resumption(run, ResumeRequest(longer, tuple(changes), False), {}, 1)
    assert run.config().stop.rounds == 40
    reopen(longer)  # killed right after, it can be resumed again without any change


def test_a_falling_learning_rate_keeps_the_length_it_was_begun_with(tmp_path):
    falling = {"schedule": {"kind": "cosine"}}
    asked = config(tmp_path / "run", training=falling, stop={"rounds": 5})
    begun = with_schedule(asked)
    length = begun.training.schedule.total_steps
    assert length is not None and length % 5 == 0
    run = RunDir.create(tmp_path / "run", begun, {})
    again, changes = reopen(config(run.location, training=falling, stop={"rounds": 10}))
    assert again.training.schedule.total_steps == length
    assert [change.field for change in changes] == ["stop.rounds"]
    assert with_schedule(config(run.location)).training.schedule.total_steps is None, "a constant rate has no length"


def test_an_optimizer_that_was_reset_every_round_cannot_be_gone_on_with(tmp_path):
    RunDir.create(tmp_path / "run", config(tmp_path / "run", training={"reset_optimizer": True}), {})
    with pytest.raises(ConfigErrors, match="reset_optimizer = False"):
        reopen(config(tmp_path / "run"))
    other = RunDir.create(tmp_path / "other", config(tmp_path / "other"), {})
    reopen(config(other.location, training={"reset_optimizer": True}))


def test_another_number_of_workers_goes_on_with_the_weights_alone(run):
    commit_round(run, 0)
    folder = commit_round(run, 1)
    commit_round(run, 2, with_optimizer=False)
    two = config(run.location, training={"num_workers": 2})
    with pytest.raises(ConfigErrors, match=r"round 1 was saved by 1 workers.*--reset-optimizer"):
        reopen(two)
    _, changes = reopen(two, reset_optimizer=True)
    assert resume_point(run.address("checkpoints"), optimizer_needed=True).round == 1
    note_resumption(run, ResumeRequest(two, tuple(changes), True), {}, 1)
    assert resume_point(run.address("checkpoints"), optimizer_needed=True).round == 2, "behind all that is committed"
    for workers in (1, 2):
        assert optimizer_to_load(round_dir(run.address("checkpoints"), 2), workers) is None
    assert optimizer_to_load(folder, 1) == optimizer_dir(folder)
    reopen(config(run.location, training={"num_workers": 4}))  # it stays given up


def test_weights_of_rounds_the_journal_has_lost_are_never_taken_for_those_to_come(run):
    folder = commit_round(run, 0).partition("?")[0]
    run.write_bytes("samples/part-r0000-s000.parquet", b"of a step that the journal lost")
    with pytest.raises(RunDirError, match=rf"lists 0 harvested rounds, but more are trained.*remove {folder}"):
        recover(run)
    assert run.exists("samples/part-r0000-s000.parquet"), "nothing is cleared before a person has decided"


def test_figures_of_a_training_whose_weights_are_gone_are_left_out(run):
    trained = {round: TrainedRound(1.0, 2.0, 3.0) for round in range(3)}
    write_state(run, DriverState(wall_time_s=9.0, trained=trained))
    assert read_state(run, 2).num_trained == 2
    assert read_state(run, 5).num_trained == 3 and read_state(run, 5).wall_time_s == 9.0


@pytest.mark.parametrize("content", [b"", b"{", b'{"wall_time_s": "long"}', b'{"trained": {"3": {}}}', b"\xff\xfe"])
def test_figures_that_cannot_be_read_are_said_to_be_lost(run, content, caplog):
    run.write_bytes(PROGRESS, content)
    with caplog.at_level(logging.WARNING):
        assert read_state(run, 9) == DriverState()
    assert PROGRESS in caplog.text


def test_a_driver_that_lost_its_lease_leaves_the_figures_alone(run):
    theirs = DriverState(wall_time_s=77.0)

    def lose_the_lease(active) -> None:
        assert read_state(run, 0).num_drivers == 1, "a driver counts from its start"
        run.delete("lease.json")
        Lease(run).acquire()
        write_state(run, theirs)
        with pytest.raises(RunDirError, match="lease"):
            active.save()

    driven(run.config(), run, lose_the_lease)
    assert read_state(run, 0) == theirs


def test_losses_that_are_no_numbers_do_not_make_a_best_version(run):
    rounds = [RoundSummary(r, r, 0, 0, 0, 0, {}, {}, 0, seconds={"harvest": 0.0}) for r in range(2)]
    ledger = RunLedger(run.config(), time.time(), rounds=rounds)
    ledger.add_trained({"heldout_rows": {"a": (2.0, 1), "b": (3.0, 1)}})
    ledger.add_trained({"heldout_rows": {"a": (float("nan"), 1), "b": (3.5, 1)}})
    assert ledger.best_version == 1


def test_training_that_an_earlier_driver_saw_to_is_not_put_into_this_ones_time(run):
    started = time.time()
    ledger = RunLedger(run.config(), started, rounds=[RoundSummary(0, 0, 0, 0, seconds={"harvest": 0.0})])
    ledger.add_trained({"committed_at": started - 3600, "seconds": {"stepping": 5.0}})
    begin = time.monotonic() - (time.time() - started)
    assert ledger.intervals.last_end("training") == pytest.approx(begin, abs=0.5)
