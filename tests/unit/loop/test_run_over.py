"""What is known of a run before anything starts: that it is over, that its journal's end is lost; and how it ends."""

from __future__ import annotations

import errno
import json

import click
import pytest
from click.testing import CliRunner
from driven import driven

from bohdi_ray.cli.errors import DONE, REFUSED, RUN_FAILED, STOPPED, errors_as_text, exit_code
from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.resume import ResumeRequest, recover, reopen
from bohdi_ray.errors import (
    ConfigError,
    Interrupted,
    LeaseLost,
    NothingLearned,
    RowsRejected,
    RunDirError,
    RunFinished,
    StorageFailed,
)
from bohdi_ray.observe.status import status_of
from bohdi_ray.run.filesystem import storage_error
from bohdi_ray.run.run_dir import BEST, SUMMARY, TARGET, RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, write_state
from bohdi_ray.tree.record import journal

MODEL = {"kind": "vllm", "model": "/m"}


def config(run, **stop) -> FusionConfig:
    plain = {"sources": [{"name": "ada", **MODEL}], "target": {"name": "target", **MODEL}, "stop": stop}
    return FusionConfig.model_validate({"run_dir": str(run), "observe": {"console": "lines"}, **plain})


@pytest.fixture
def run(tmp_path) -> RunDir:
    """Two rounds are harvested, of a run that was to have two."""
    run = RunDir.create(tmp_path / "run", config(tmp_path / "run", rounds=2), {})
    for round in range(2):
        events = [journal.RowsDrawn(()), journal.RoundOpened(round + 1, 0)]
        Segments(run).write_segment(round, journal.encode(events))
    write_state(run, DriverState(wall_time_s=100.0, num_drivers=1))
    return run


def summary(run: RunDir, reason: str, **more) -> None:
    run.write_bytes(SUMMARY, json.dumps({"stop_reason": reason, **more}).encode())


def ended(run: RunDir, reason: str) -> None:
    summary(run, reason)
    for folder in (TARGET, BEST):
        run.write_bytes(f"{folder}/config.json", b"{}")


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        ({"rounds": 2}, r"has ended \(stop.rounds = 2\): .*/target is its target.*stop.rounds=4"),
        ({"rounds": 1}, r"has ended \(stop.rounds = 2\), and stop.rounds = 1 is reached too.*stop.rounds=2"),
        ({"rounds": 9, "wall_time_s": 60.0}, r"and stop.wall_time_s = 60 is reached too.*stop.wall_time_s=120"),
    ],
)
def test_a_run_that_no_rule_lets_go_on_is_finished_before_anything_starts(run, stop, words):
    ended(run, "stop.rounds = 2")
    with pytest.raises(RunFinished, match=words) as finished:
        reopen(config(run.location, **stop))
    assert exit_code(finished.value) == DONE
    assert run.exists(SUMMARY), "it has ended still"


def test_a_later_rule_lets_it_go_on(run):
    ended(run, "stop.rounds = 2")
    reopen(config(run.location, rounds=3))


def test_a_run_that_learned_nothing_ends_so_again_until_a_rule_is_raised(run):
    summary(run, "stop.rounds = 2", failed_because="nothing was learned: ...")
    with pytest.raises(NothingLearned, match="nothing was learned"):
        reopen(run.config())
    reopen(config(run.location, rounds=3))


# A journal whose last segment is damaged.


def test_a_damaged_last_segment_is_told_on_resume_and_by_status(run, capfd):
    path = run.path("tree/segment-00000001")
    with open(path, "r+b") as file:
        file.truncate(20)
    recovered = recover(run)
    assert len(recovered.closed) == 1 and recovered.damaged is not None
    driven(run.config(), run, lambda active: None, request=ResumeRequest(run.config(), (), False))
    told = " ".join("".join(capfd.readouterr()).split())
    assert "warning: the end of the journal was lost: tree/segment-00000001 is damaged and skipped" in told
    records = [json.loads(line) for line in run.read_bytes("metrics.jsonl").splitlines()]
    assert [r["damaged"] for r in records if r["kind"] == "journal_damaged"] == [recovered.damaged]
    assert "segment-00000001 is damaged" in status_of(run.location).text()


def test_a_whole_journal_is_not_spoken_of(run, capfd):
    recovered = recover(run)
    driven(run.config(), run, lambda active: None, request=ResumeRequest(run.config(), (), False))
    assert recovered.damaged is None and "damaged" not in "".join(capfd.readouterr())
    assert "damaged" not in status_of(run.location).text()


# Exit codes.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a", 1, "b", "c"), REFUSED),
        (RunDirError("no run"), REFUSED),
        (storage_error("/run", "write", OSError(errno.ENOSPC, "No space left on device")), RUN_FAILED),
        (storage_error("/run", "write", OSError(errno.EACCES, "Permission denied")), RUN_FAILED),
        (storage_error("s3://b/run", "read", OSError("AWS error: timed out")), RUN_FAILED),
        (StorageFailed("full"), RUN_FAILED),
        (LeaseLost("theirs"), RUN_FAILED),
        (NothingLearned("nothing"), RUN_FAILED),
        (RowsRejected("all"), RUN_FAILED),
        (RunFinished("over"), DONE),
        (Interrupted("stop"), STOPPED),
    ],
)
def test_what_an_error_ends_the_program_with(error, code):
    assert exit_code(error) == code


def ends_with(error: BaseException):
    @click.command()
    @errors_as_text
    def command() -> None:
        raise error

    return CliRunner().invoke(command)


def test_a_full_disk_that_nobody_wrapped_is_a_failure_with_a_remedy():
    inner = OSError(errno.ENOSPC, "No space left on device", "/tmp/ray/x")
    outer = RuntimeError("something else died of it")
    outer.__cause__ = inner
    for error in (inner, outer):
        done = ends_with(error)
        assert done.exit_code == RUN_FAILED and done.output.startswith("failed: the disk under /tmp/ray/x is full")
        assert "bohdi resume" in done.output


def test_a_finished_run_is_no_refusal():
    done = ends_with(RunFinished("r has ended"))
    assert (done.exit_code, done.output) == (DONE, "finished: r has ended\n")
