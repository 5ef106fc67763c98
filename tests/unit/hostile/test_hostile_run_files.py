"""Whatever lies in a run's small files: read rightly, refused with a remedy, or, where nothing depends on the file,
left out with a warning."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostile_input import ANY_TEXT, examples, says_what_to_do, within
from hypothesis import given
from hypothesis import strategies as st
from scripted_fusion import make_config

from bohdi_ray.cli import main
from bohdi_ray.driver.resume import reopen
from bohdi_ray.errors import BohdiError, ConfigErrors, RunDirError
from bohdi_ray.run.lease import Lease, read_lease
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.state import DriverState, TrainedRound, read_state, write_state
from bohdi_ray.training.weights import checkpoints

CONFIG = make_config()
STATE = DriverState(
    wall_time_s=9.5,
    num_drivers=2,
    trained={0: TrainedRound(1.5, 2.5, 3.0)},
    harvest_s={0: 4.0},
    spans={"harvest": [(0.0, 4.0)]},
    best_rows={"r0000-s000-t00000": (1.0, 3)},
)
ROUND = checkpoints.RoundState(0, 3, 3, 1, 1, False)
ODD = st.sampled_from(
    [None, True, -1, 0, 7, 2**70, 1.5, -1e308, "x", "", "\x1b]52;c;AAAA\x07", [], [1], {}, {"a": 1}, [[5, 1]]]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    """A run that has ended, with one committed round."""
    made = RunDir.create(tmp_path_factory.mktemp("hostile") / "run", CONFIG, {"bohdi_ray": "0.1.0"})
    made = RunDir(made.location)
    folder = checkpoints.round_dir(made.path("checkpoints"), 0)
    Path(folder).mkdir(parents=True)
    checkpoints.write_state(folder, ROUND)
    checkpoints.write_metrics(folder, {"loss": 1.5})
    checkpoints.commit_folder(folder)
    write_state(made, STATE)
    Lease(made, owner="somebody", clock=lambda: 1e12).acquire()
    made.write_bytes("summary.json", b'{"stop_reason": "stop.rounds"}')
    for name in ("target", "best"):
        Path(made.path(name)).mkdir()
    return made


def damaged(data: st.DataObject, good: bytes) -> bytes:
    """The file with bytes flipped, cut or replaced; or whole JSON with another value, a key more or a key less."""
    kind = data.draw(st.sampled_from(["flip", "cut", "bytes", "text", "value", "less", "more", "deep", "twice"]))
    at = data.draw(st.integers(0, len(good) - 1))
    if kind == "flip":
        return good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :]
    if kind in ("cut", "twice"):
        return good[:at] if kind == "cut" else good + good
    if kind == "deep":
        return b"[" * 100_000
    if kind in ("bytes", "text"):
        return data.draw(st.binary(max_size=20) if kind == "bytes" else ANY_TEXT.map(lambda t: json.dumps(t).encode()))
    plain = json.loads(good)
    key = data.draw(st.sampled_from(sorted(plain)))
    if kind == "value":
        plain[key] = data.draw(ODD)
    elif kind == "less":
        del plain[key]
    else:
        plain["later"] = data.draw(ODD)
    return json.dumps(plain).encode()


def with_file(run: RunDir, name: str, content: bytes | None, way):
    """What `way` gives while the file holds `content`, or the error of ours that it raises."""
    path = Path(run.path(name))
    good = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        with within(10):
            try:
                return way()
            except BohdiError as error:
                assert says_what_to_do(error)
                return error
    finally:
        path.write_bytes(good)


@examples(70)
@given(data=st.data())
def test_progress_is_read_or_left_out_with_a_warning(run, caplog, data):
    """Nothing depends on it but figures."""
    good = run.read_bytes("progress.json")
    caplog.clear()
    content = damaged(data, good)
    with caplog.at_level(logging.WARNING):
        state = with_file(run, "progress.json", content, lambda: read_state(run, 1))
    assert isinstance(state, DriverState)
    if state == DriverState() and content.strip() != b"{}":  # which says the same
        assert "progress.json cannot be read" in caplog.text
    assert all(start <= end for spans in state.spans.values() for start, end in spans)
    assert read_state(run, 1) == STATE


@examples(70)
@given(data=st.data())
def test_a_lease_is_honoured_or_refused(run, data):
    """A lease that cannot be read is nobody's to take: only a person can know whether its owner lives."""
    content = damaged(data, run.read_bytes("lease.json"))

    def acquire():
        lease = Lease(run, clock=lambda: 1e12)
        return lease.acquire(), read_lease(run)["token"] == lease.claim.token

    found = with_file(run, "lease.json", content, acquire)
    if isinstance(found, RunDirError):
        assert "in use by" in str(found) or "then remove it" in str(found) or "was lost" in str(found)
    else:
        changed = json.loads(content)
        whole = {"owner": str, "token": str, "heartbeat_at": (int, float), "pid": int}
        assert found == (True, True) and all(isinstance(changed[key], kinds) for key, kinds in whole.items())


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_a_lease_of_an_impossible_process_is_refused(run, pid):
    """On this machine a lease ends with its process, so its number is asked after."""
    held = json.dumps(json.loads(run.read_bytes("lease.json")) | {"pid": pid}).encode()
    found = with_file(run, "lease.json", held, lambda: Lease(run, clock=lambda: 1e12).acquire())
    assert "then remove it" in str(found)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"[]"])
def test_a_lease_that_holds_nothing_is_refused(run, content):
    assert "then remove it" in str(with_file(run, "lease.json", content, lambda: Lease(run).acquire()))


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b"\xff", b"[]", b'{"spans": {"harvest": [[5, 1]]}}', b'{"later": ' + b"[" * 100_000],
)
def test_progress_that_holds_nothing_is_left_out_with_a_warning(run, caplog, content):
    with caplog.at_level(logging.WARNING):
        assert with_file(run, "progress.json", content, lambda: read_state(run, 1)) == DriverState()
    assert "progress.json cannot be read" in caplog.text


@examples(70)
@given(data=st.data())
def test_the_state_of_a_checkpoint_is_read_or_refused(run, data):
    name, folder = "checkpoints/round-0/state.json", run.path("checkpoints")
    content = damaged(data, run.read_bytes(name))
    found = with_file(run, name, content, lambda: checkpoints.committed_rounds(folder))
    if isinstance(found, RunDirError):
        assert "state.json" in str(found) and "restore it" in str(found)
    else:
        assert all(type(getattr(found[0], field)) is int for field in ("round", "next_step", "world_size"))


def test_a_checkpoint_without_state_is_refused(run):
    found = with_file(
        run, "checkpoints/round-0/state.json", None, lambda: checkpoints.committed_rounds(run.path("checkpoints"))
    )
    assert isinstance(found, RunDirError) and "missing" in str(found)


def test_metrics_of_a_round_that_diverged_come_back(tmp_path):
    checkpoints.write_metrics(str(tmp_path), {"loss": float("nan"), "norm": float("inf")})
    found = checkpoints.read_metrics(str(tmp_path))
    assert math.isnan(found["loss"]) and found["norm"] == math.inf


@examples(40)
@given(data=st.data())
def test_metrics_of_a_round_are_read_or_left_out_with_a_warning(run, caplog, data):
    name, folder = "checkpoints/round-0/metrics.json", run.path("checkpoints/round-0")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = with_file(run, name, damaged(data, run.read_bytes(name)), lambda: checkpoints.read_metrics(folder))
    assert isinstance(found, dict)
    assert found != {} or "metrics.json" in caplog.text or caplog.text == ""
    assert checkpoints.read_metrics(folder) == {"loss": 1.5}


@examples(40)
@given(data=st.data())
def test_a_summary_says_why_the_run_ended_or_is_refused(run, data):
    """Going on with a run that has ended is refused; when nobody can read why, the remedy is another one."""
    content = damaged(data, run.read_bytes("summary.json"))
    config = CONFIG.model_copy(update={"run_dir": run.location})
    found = with_file(run, "summary.json", content, lambda: reopen(config, reset_optimizer=True))
    assert isinstance(found, RunDirError | ConfigErrors)
    assert "has ended" in str(found) or "summary.json is damaged" in str(found)


@examples(40)
@given(data=st.data())
def test_a_stored_configuration_is_read_or_refused(run, data):
    good = run.read_bytes("config.yaml")
    at = data.draw(st.integers(0, len(good) - 1))
    inserted = data.draw(
        st.sampled_from([b"\xff", b"\0", b"\t", b": ", b"\n- ", b"&a [*a]", b"&", b"{", b"'", b"!!python/x "])
    )
    content = good[:at] + inserted + good[data.draw(st.integers(at, len(good))) :]
    found = with_file(run, "config.yaml", content, run.config)
    assert isinstance(found, type(CONFIG)) or (isinstance(found, RunDirError) and "config.yaml" in str(found))


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff", b"run_dir: [", b"a: &a [*a]", b"nothing: known"])
@pytest.mark.parametrize("command", [["tree"], ["tree", "--json"], ["resume"], ["export", "OUT"]])
def test_commands_on_a_run_whose_configuration_is_damaged(run, tmp_path, content, command):
    words = [command[0], run.location, *(str(tmp_path / "out") if word == "OUT" else word for word in command[1:])]
    result = with_file(run, "config.yaml", content, lambda: CliRunner().invoke(main, words))
    assert result.exit_code == 2 and result.output.startswith("refused: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, None])
def test_an_environment_is_read_or_refused(run, content):
    found = with_file(run, "environment.json", content, run.environment)
    assert isinstance(found, RunDirError) and "environment.json" in str(found)


@pytest.mark.parametrize("content", [b"[]", b"\xff", b"{", b"[" * 100_000, b"3", b'{"committed_at": '])
def test_a_commit_is_read_or_refused(run, content):
    """An empty one is a commit like any other."""
    name = "checkpoints/round-0/COMMIT"
    found = with_file(run, name, content, lambda: run.commit_facts("checkpoints/round-0"))
    assert isinstance(found, RunDirError) and "COMMIT" in str(found)
    assert with_file(run, name, b"", lambda: run.commit_facts("checkpoints/round-0")) == {}
