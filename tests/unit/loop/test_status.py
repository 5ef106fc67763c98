"""`bohdi status`: what a run's files say of it, whoever wrote them last, and however they were damaged."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bohdi_ray.cli import main
from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RunDirError
from bohdi_ray.observe.status import read_records, status_of
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, TrainedRound, write_state
from bohdi_ray.training.weights import checkpoints
from bohdi_ray.tree.record import journal

NOW = 1e9
LOOK = {"kind": "look", "harvest_idle": 0.4, "training_idle": 0.1, "replicas": {"near": {"wanted": 2, "up": 2}}}


def config(run_dir: str) -> FusionConfig:
    return FusionConfig.model_validate(
        {
            "run_dir": run_dir,
            "sources": [{"kind": "vllm", "name": "near", "model": "./none"}],
            "target": {"name": "target", "model": "./none"},
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two rounds harvested, the first one trained, a driver alive."""
    location = str(tmp_path / "run")
    run = RunDir.create(location, config(location), {})
    events = [
        journal.Credited("r0000-s000-t00000", ("A", "B", "C"), "aa", 1),
        journal.Failed("r0000-s000-t00001", "invalid_question"),
        journal.StepCommitted(0, "part-r0000-s000.parquet", 1, {"answer": 9}),
        journal.RowsDrawn(("r0000-s000-t00000",)),
        journal.RoundOpened(1, 0),
        journal.RowsDrawn(("r0000-s000-t00000",)),
    ]
    Segments(run).write_segment(0, journal.encode(events))
    folder = checkpoints.round_dir(run.path("checkpoints"), 0)
    Path(folder).mkdir(parents=True)
    checkpoints.commit_folder(folder)
    write_state(run, DriverState(trained={0: TrainedRound(1.5, 2.25, 50.0)}, best_version=1))
    Lease(run, owner="node:7", clock=lambda: NOW - 10).acquire()
    return run


def log(run: RunDir, *records: dict) -> None:
    run.write_bytes("metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())


ROUND = {"kind": "round", "round": 1, "time": NOW - 60, "seconds": 20.0, "accepted": 50, "reward_rate": 0.8}
TRAINING = {"kind": "training", "round": 0, "time": NOW - 80, "committed_at": NOW - 900, "tokens_per_s": 700.0}


def test_a_run_under_way(run):
    log(run, TRAINING, ROUND, {**LOOK, "time": NOW - 20})
    status = status_of(run.location, NOW)
    assert status.health.healthy and status.health.limited_by == "training"
    text = status.text()
    for part in (
        "rounds: 2 harvested, 1 trained",
        "weights: version 1 is the newest; round 1 was harvested with 0",
        "samples: 1 of 2 tickets",
        "2.50 samples/s in round 1, sources won 80%, training 700 tokens/s",
        "near 2/2 (20 s ago)",
        "held-out loss: 2.250 after round 0; best version 1",
        "lease: node:7, heartbeat 10 s ago",
    ):
        assert part in text


def test_a_trainer_that_stands_still_since_the_round_was_closed(run):
    up, closed = {"kind": "start_up", "time": NOW - 900}, {**ROUND, "time": NOW - 200}
    log(run, up, {**TRAINING, "committed_at": NOW - 300}, closed)
    assert status_of(run.location, NOW).health.state == "trainer stalled"
    log(run, up, {**TRAINING, "committed_at": NOW - 100}, closed)  # it was busy with the round before
    assert status_of(run.location, NOW).health.state == "healthy"


def test_a_trainer_that_is_not_up_yet_does_not_stand_still(run):
    resumed = {"kind": "resumed", "time": NOW - 400}
    before = [{"kind": "start_up", "time": NOW - 9000}, TRAINING, {**ROUND, "time": NOW - 8000}]
    log(run, *before, resumed)  # its engines load
    assert status_of(run.location, NOW).health.state == "healthy"
    log(run, *before, resumed, {"kind": "start_up", "time": NOW - 100})
    assert status_of(run.location, NOW).health.state == "healthy"
    log(run, *before, resumed, {"kind": "start_up", "time": NOW - 160})
    assert status_of(run.location, NOW).health.state == "trainer stalled"


def test_a_source_that_is_left_out_and_taken_back(run):
    left_out = {"kind": "source_left_out", "time": NOW - 30, "model": "near", "error": "connection \x1b[2Jrefused\nok"}
    log(run, left_out)
    status = status_of(run.location, NOW)
    assert status.health.state == "degraded" and "sources left out: near" in status.text()
    assert "\x1b" not in status.text() and len(status.text().splitlines()) == 1 + len(status.figures)
    log(run, left_out, {"kind": "source_back", "time": NOW - 20, "model": "near"})
    assert status_of(run.location, NOW).health.state == "healthy"
    log(run, left_out, {"kind": "resumed", "time": NOW - 20})
    assert status_of(run.location, NOW).health.state == "healthy"


def test_engines_that_are_missing_for_a_while(run):
    short = {**LOOK, "replicas": {"near": {"wanted": 2, "up": 1}}}
    log(run, {**LOOK, "time": NOW - 140}, {**short, "time": NOW - 80}, {**short, "time": NOW - 20})
    assert status_of(run.location, NOW).health.state == "healthy"  # it may be on its way
    log(run, *({**short, "time": NOW - age} for age in (140, 80, 20)))
    assert "near 1 of 2" in status_of(run.location, NOW).health.text


def test_a_run_whose_rows_are_rejected_says_how_many_and_why(run):
    figures = TrainedRound(1.5, 2.25, 50.0, rejected_rows={"prompt_too_long": 3, "too_long": 1})
    write_state(run, DriverState(trained={0: figures}, best_version=1))
    status = status_of(run.location, NOW)
    assert status.health.state == "degraded"
    assert "4 rows of the last trained round were rejected" in status.health.text
    assert "training rows REJECTED: 4 (3 prompt_too_long, 1 too_long)" in status.text()


def test_a_run_whose_rounds_give_no_sample_says_for_how_long(run):
    for number in (1, 2):
        lost = journal.Failed(f"r000{number + 1}-s000-t00000", "invalid_question")
        events = [journal.RoundOpened(number + 1, 0), lost, journal.StepCommitted(0, "", 0, {}), journal.RowsDrawn(())]
        Segments(run).write_segment(number, journal.encode(events))
        verdict = status_of(run.location, NOW).health
        assert verdict.state == "degraded"
        assert ("the last round gave" if number == 1 else "the last 2 rounds gave") + " no sample" in verdict.text


def test_a_driver_that_died_was_stopped_or_finished(run, tmp_path):
    assert status_of(run.location, NOW + 300).health.state == "driver dead"
    run.delete("lease.json")
    log(run, {"kind": "ended", "time": NOW, "error": "TrainingFailed: loss is not a number"})
    verdict = status_of(run.location, NOW).health
    assert verdict.state == "stopped" and "loss is not a number" in verdict.text
    run.write_bytes("summary.json", b'{"stop_reason": "stop.rounds = 2"}')
    assert status_of(run.location, NOW).health.state == "stopped"  # RUN/target is not written
    for name in ("target", "best"):
        Path(run.path(name)).mkdir()
    assert status_of(run.location, NOW).health.line() == "finished: the run ended because stop.rounds = 2"


def test_the_command_says_it_and_ends_with_its_code(run, tmp_path):
    done = CliRunner().invoke(main, ["status", run.location])
    assert done.exit_code == 1 and done.output.startswith("driver dead: node:7")
    Lease(run, owner="node:8", clock=time.time).acquire()
    done = CliRunner().invoke(main, ["status", run.location])
    assert done.exit_code == 0 and done.output.startswith("healthy: ")
    assert CliRunner().invoke(main, ["status", str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(main, ["status"]).exit_code == 2


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
PLAIN = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner))
KINDS = st.sampled_from(["resumed", "start_up", "ended", "look", "source_left_out", "source_back", "round", "training"])
FIELDS = st.sampled_from([*"abc", *ROUND, *TRAINING, *LOOK, "model", "error", "requests"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.builds(lambda kind, more: {**more, "kind": kind}, KINDS, st.dictionaries(FIELDS, PLAIN)), max_size=4)
)
def test_no_record_spoils_a_status(run, records):
    lines = [json.dumps(record) for record in records]
    run.write_bytes("metrics.jsonl", ("\n".join(["no json", "[1]", *lines]) + "\nto").encode())
    assert status_of(run.location, NOW).health.state in ("healthy", "degraded", "trainer stalled")


def test_looks_are_kept_from_the_newest_driver_on():
    told = read_records(iter([LOOK, {"kind": "ended", "error": None}, {"kind": "start_up"}, LOOK]))
    assert (len(told.polls), told.ended) == (1, None)


def test_a_damaged_lease_is_refused(run):
    run.write_bytes("lease.json", b"{")
    with pytest.raises(RunDirError, match="damaged"):
        status_of(run.location)
