"""Trackers get the run's figures, go on where they left off, and never cost the run anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem
from wandb_files import wandb_records

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.sections import ObserveConfig
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.observe.trackers import opening as trackers_module
from bohdi_ray.observe.trackers.opening import Trackers, open_trackers, tracker_errors, wanted
from bohdi_ray.preflight import preflight
from bohdi_ray.run.run_dir import RunDir


@pytest.fixture(params=["local", "object store"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    filesystem = None if request.param == "local" else pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem()))
    return RunDir(tmp_path / "runs" / "fusion", filesystem)


def config(run: RunDir, *names: str) -> FusionConfig:
    return FusionConfig.model_validate(
        {
            "run_dir": run.location,
            "sources": [
                {"kind": "vllm", "name": "ada", "model": "./none"},
                {
                    "kind": "openai",
                    "name": "far",
                    "model": "m",
                    "base_url": "https://a.invalid",
                    "api_key": "env:FAR_KEY",
                },
            ],
            "target": {"name": "target", "model": "./none"},
            "observe": {"trackers": names, "trackers_offline": True, "project": "trial"},
        }
    )


def drive(run: RunDir, name: str, round: int, loss: float) -> None:
    """One driver's life: two records."""
    told: list[str] = []
    with Metrics(run, open_trackers(config(run, name), run, told.append)) as metrics:
        metrics.log("training", round=round, step=round + 3, loss=loss, note="text", ok=True)
        metrics.log("engine", round=round, model="alpha", tokens=5)
        metrics.flush()
    assert told == []


def assert_no_leftovers() -> None:
    assert list(Path(tempfile.gettempdir()).glob("bohdi_ray-*")) == []


def test_tensorboard_files_hold_the_scalars_of_all_drivers(run: RunDir, tmp_path: Path):
    drive(run, "tensorboard", 0, 2.0)
    drive(run, "tensorboard", 1, 1.0)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs" / "fusion" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(3, 2.0), (4, 1.0)]
    assert [(event.step, event.value) for event in events.Scalars("engine/tokens/alpha")] == [(0, 5.0), (1, 5.0)]
    assert set(events.Tags()["scalars"]) == {"training/loss", "engine/tokens/alpha"}
    assert_no_leftovers()


def test_wandb_writes_one_run_for_all_drivers(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("FAR_KEY", "sesame-open")
    drive(run, "wandb", 0, 2.0)
    time.sleep(1.1)  # the client names a driver's folder by the second
    drive(run, "wandb", 1, 1.0)
    folder = tmp_path / "runs" / "fusion" / "wandb"
    known = json.loads((folder / "run.json").read_text())["id"]
    files = sorted(folder.glob("offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    found = [wandb_records(file) for file in files]
    assert [history for history, _ in found] == [
        [{"training/loss": 2.0, "training/step": 3}, {"engine/tokens/alpha": 5.0, "engine/step": 0}],
        [{"training/loss": 1.0, "training/step": 4}, {"engine/tokens/alpha": 5.0, "engine/step": 1}],
    ]
    settings = found[0][1]
    assert settings["sources"][1]["api_key"] == "env:FAR_KEY" and settings["observe"]["project"] == "trial"
    assert not any(b"sesame-open" in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert_no_leftovers()


HANGING = """
import faulthandler, sys, time, psutil
from test_trackers import config
from bohdi_ray.observe.trackers import opening as trackers
from bohdi_ray.run.run_dir import RunDir

faulthandler.dump_traceback_later(50, exit=True)  # so that a hang says where
trackers.CLOSE_S = 0.5
run = RunDir(sys.argv[1])
opened = trackers.open_trackers(config(run, "wandb"), run, print)
opened.add(1, 0.0, {"a/b": 1.0})
services = []
while not services or opened._workers[0]._queue.qsize():
    assert opened._workers[0].fault is None, opened._workers[0].fault
    time.sleep(0.01)
    services = [child for child in psutil.Process().children() if child.name().startswith("wandb-")]
services[0].suspend()
opened.close()
"""


def test_wandb_that_hangs_does_not_keep_the_process(tmp_path: Path):
    pytest.importorskip("wandb")
    command = [sys.executable, "-c", HANGING, str(tmp_path / "run")]
    paths = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(trackers_module.__file__).parents[3])])
    }
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as short:  # the path of a socket has room for little
        env = {**os.environ, **paths, "TMPDIR": short}
        ended = subprocess.run(command, timeout=60, capture_output=True, text=True, env=env)
        assert ended.returncode == 0, ended.stderr
        assert list(Path(short).glob("wandb-*")) == [], "its socket is left"
    assert "had not sent everything" in ended.stdout


def test_mlflow_gets_one_run_for_all_drivers(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("FAR_KEY", "sesame-open")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    drive(run, "mlflow", 0, 2.0)
    drive(run, "mlflow", 1, 1.0)
    from mlflow import MlflowClient

    folder = tmp_path / "runs" / "fusion" / "mlflow"
    client = MlflowClient(tracking_uri=folder.as_uri())
    experiment = client.get_experiment_by_name("trial")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [(r.info.run_name, r.info.status) for r in runs] == [("fusion", "FINISHED")]
    assert runs[0].data.params["sources.1.api_key"] == "env:FAR_KEY"
    losses = client.get_metric_history(runs[0].info.run_id, "training/loss")
    assert [(metric.step, metric.value) for metric in losses] == [(3, 2.0), (4, 1.0)]
    assert not any(b"sesame-open" in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert_no_leftovers()


class Recorded:
    """A tracker that keeps what it gets, and does what it is told to do in between."""

    def __init__(self, before_add=lambda: None):
        self.got: list[tuple] = []
        self._before_add = before_add

    def add(self, step, time_s, values):
        self._before_add()
        self.got.append((step, time_s, values))

    def flush(self):
        self.got.append(("flush",))

    def close(self):
        self.got.append(("close",))


def failing(error: BaseException):
    def fail():
        raise error

    return fail


def settled(trackers: Trackers) -> None:
    """Waits until every tracker's thread has ended."""
    for worker in trackers._workers:
        worker._thread.join(10)
        assert not worker._thread.is_alive()


@pytest.mark.parametrize("error", [OSError("connection refused"), SystemExit(1)])
def test_a_tracker_that_fails_is_told_once_and_the_others_go_on(error: BaseException):
    good, told = Recorded(), []
    bad = Recorded(failing(error))
    trackers = Trackers({"bad": lambda: bad, "good": lambda: good}, told.append)
    trackers.add(1, 10.0, {"a/b": 1.0})
    trackers._workers[0]._thread.join(10)
    trackers.add(2, 11.0, {"a/b": 2.0})
    trackers.flush()
    trackers.close()
    assert [text.count(type(error).__name__) for text in told] == [1] and "bad gave up" in told[0]
    assert good.got == [(1, 10.0, {"a/b": 1.0}), (2, 11.0, {"a/b": 2.0}), ("flush",), ("close",)]
    assert bad.got == [("close",)]


def test_a_tracker_that_cannot_be_made_is_told_without_its_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "sesame-open")
    told: list[str] = []
    error = RuntimeError("no answer from https://me:hush@example.invalid/api for sesame-open")
    trackers = Trackers({"wandb": failing(error)}, told.append)
    settled(trackers)
    trackers.close()
    assert len(told) == 1 and "no answer" in told[0]
    assert "sesame" not in told[0] and "hush" not in told[0]


def test_a_tracker_that_hangs_delays_nothing_but_the_end_and_that_not_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers_module, "CLOSE_S", 0.2)
    monkeypatch.setattr(trackers_module, "MAX_WAITING", 5)
    released, told = threading.Event(), []
    trackers = Trackers({"slow": lambda: Recorded(released.wait)}, told.append)
    started = time.monotonic()
    for step in range(50):
        trackers.add(step, 0.0, {"a/b": 1.0})
    trackers.close()
    assert time.monotonic() - started < 5
    assert len(told) == 1 and "5 records behind" in told[0]
    released.set()
    settled(trackers)


def test_what_is_not_sent_in_time_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers_module, "CLOSE_S", 0.1)
    released, told = threading.Event(), []
    trackers = Trackers({"slow": lambda: Recorded(released.wait)}, told.append)
    trackers.add(1, 0.0, {"a/b": 1.0})
    trackers.close()
    assert len(told) == 1 and "had not sent everything" in told[0]
    released.set()
    settled(trackers)


def test_the_old_setting_still_asks_for_tensorboard():
    assert wanted(ObserveConfig(tensorboard=True)) == ("tensorboard",)
    assert wanted(ObserveConfig(tensorboard=True, trackers=("wandb", "tensorboard"))) == ("tensorboard", "wandb")
    assert wanted(ObserveConfig()) == ()


def test_a_missing_package_is_refused_with_the_command(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers_module.importlib.util, "find_spec", lambda name: None)
    problems = [p for p in preflight(config(run, "wandb", "mlflow"), None).problems if p.field == "observe.trackers"]
    assert [p.remedy for p in problems] == [
        "pip install wandb, or leave it out.",
        "pip install mlflow-skinny, or leave it out.",
    ]


@pytest.mark.parametrize(
    ("name", "settings", "refused"),
    [
        ("wandb", {}, True),
        ("wandb", {"WANDB_API_KEY": "x"}, False),
        ("wandb", {"WANDB_MODE": "offline"}, False),
        ("mlflow", {}, True),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}, False),
    ],
)
def test_online_trackers_need_to_know_their_server(name, settings, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers_module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    problems = tracker_errors(ObserveConfig(trackers=(name,)))
    assert bool(problems) == refused
    assert all("trackers_offline: true" in problem.remedy for problem in problems)
    assert tracker_errors(ObserveConfig(trackers=(name,), trackers_offline=True)) == []
