"""metrics.jsonl is always readable; other outputs follow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from bohdi_ray.observe import metrics as metrics_module
from bohdi_ray.observe.metrics import Metrics, plain
from bohdi_ray.run.run_dir import RunDir


def lines(run: RunDir) -> list[dict]:
    return [json.loads(line) for line in run.read_bytes("metrics.jsonl").decode().splitlines()]


@pytest.fixture(params=["local", "object store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDir:
    filesystem = None if request.param == "local" else pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem()))
    return RunDir(tmp_path / "run", filesystem)


def test_records_are_lines_and_a_resumed_run_adds_to_them(run: RunDir):
    with Metrics(run, clock=lambda: 12.5) as metrics:
        metrics.log("round", round=0, accepted=3, failures={"duplicate": 1})
    with Metrics(run, clock=lambda: 13.5) as metrics:
        metrics.log("training", step=4, loss=np.float32(1.5))
    assert lines(run) == [
        {"time": 12.5, "kind": "round", "round": 0, "accepted": 3, "failures": {"duplicate": 1}},
        {"time": 13.5, "kind": "training", "step": 4, "loss": 1.5},
    ]


def test_a_local_record_is_in_the_file_at_once(tmp_path: Path):
    metrics = Metrics(RunDir(tmp_path))
    metrics.log("round", round=0)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    metrics.close()


def test_a_line_cut_by_a_crash_does_not_spoil_the_next(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "a"}\n{"kind": "b", "va')
    with Metrics(RunDir(tmp_path)) as metrics:
        metrics.log("c")
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[2])["kind"] == "c"


def test_an_object_store_gets_the_file_every_half_minute(tmp_path: Path):
    now = [0.0]
    run = RunDir(tmp_path / "run", pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem())))
    metrics = Metrics(run, clock=lambda: now[0])
    metrics.log("a")
    assert not run.exists("metrics.jsonl")
    now[0] = 31
    metrics.log("b")
    assert [line["kind"] for line in lines(run)] == ["a", "b"]
    metrics.log("c")
    assert len(lines(run)) == 2
    metrics.flush()
    assert len(lines(run)) == 3
    metrics.close()


def test_values_become_plain_and_finite():
    value = {"a": np.int64(3), "b": float("nan"), "c": (np.float32(0.5), float("inf")), "d": np.arange(2), 5: Path("x")}
    assert plain(value) == {"a": 3, "b": None, "c": [0.5, None], "d": [0, 1], "5": "x"}


def test_nothing_heavy_is_imported():
    code = "import sys, bohdi_ray.observe.metrics, bohdi_ray.observe.observers, bohdi_ray.examples.export; "
    heavy = "{'ray', 'torch', 'vllm', 'deepspeed', 'transformers', 'tensorboard'}"
    root = Path(metrics_module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code + f"assert not {heavy} & set(sys.modules)"], check=True, cwd=root)
