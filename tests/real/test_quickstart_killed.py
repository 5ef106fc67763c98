"""A short quickstart that loses its target's engine and then its driver, and is resumed, all as a user would do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clean_env import clean_env

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record.history import read_history

QUICKSTART = Path(__file__).parents[2] / "jobs" / "configs" / "quickstart.yaml"
BOHDI = str(Path(sys.executable).parent / "bohdi")
WALKS, ROWS, ROUNDS = 8, 16, 2
SHORTER = [
    f"meditation.walks_per_step={WALKS}",
    "enlightenment.steps=1",
    "judge.orders=1",
    f"stop.rounds={ROUNDS}",
    "observe.console=lines",
]
MOMENT_S = 900  # start-up included
RESUMED_S = 1200


class Run:
    """Drivers of one run, with a Ray of their own, as on a laptop."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> psutil.Process:
        env = clean_env()
        with self.log.open("a") as out:
            self._process = subprocess.Popen([BOHDI, *command], env=env, stdout=out, stderr=out)
        return psutil.Process(self._process.pid)

    def wait_for(self, pattern: str) -> None:
        """Until a file of the run matches."""
        deadline = time.monotonic() + MOMENT_S
        while not any(self.folder.glob(pattern)):
            assert self._process is not None and self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, (pattern, self.log.read_text())
            time.sleep(0.1)

    def wait(self, timeout_s: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)


def engines(driver: psutil.Process) -> list[psutil.Process]:
    """The processes of this driver's engines, by age; the target's is made last."""
    children = [child for child in driver.children(recursive=True) if title(child).startswith("ray::EngineActor")]
    return sorted(children, key=lambda child: child.create_time())


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.long(700)
@pytest.mark.timeout(2 * MOMENT_S + RESUMED_S)
def test_the_targets_engine_and_then_the_driver_are_killed_and_nothing_is_lost(quickstart_models, tmp_path):
    run = Run(tmp_path / "run")
    try:
        driver = run.start("fuse", str(QUICKSTART), f"run_dir={run.folder}", *SHORTER)
        run.wait_for("samples/part-r0000-s000*")
        target = engines(driver)[-1]
        own = [target, *target.children(recursive=True)]
        assert len(own) > 1, "vLLM works in processes of its own"
        target.send_signal(signal.SIGKILL)
        run.wait_for("samples/part-r0001-s000*")  # needs an engine in its place
        assert len(engines(driver)) == 3 and engines(driver)[-1].pid != target.pid
        assert not any(map(runs, own)), "an engine's processes outlived it"
        os.kill(driver.pid, signal.SIGKILL)
        run.wait(30)
        before = {sample.sample_id for sample in committed_samples(run.folder)}
        assert before

        run.start("resume", str(run.folder))
        assert run.wait(RESUMED_S) == 0, run.log.read_text()
    finally:
        run.end()
    summary = json.loads((run.folder / "summary.json").read_text())
    assert [r["tickets"] for r in summary["rounds"]] == [2 * WALKS] * ROUNDS
    assert [r["training_rows"] for r in summary["rounds"]] == [ROWS] * ROUNDS
    samples = {sample.sample_id for sample in committed_samples(run.folder)}
    assert before <= samples, "what was committed before the driver died is lost"
    by_round = [sum(sample.startswith(f"r{number:04d}-") for sample in samples) for number in range(ROUNDS)]
    assert by_round == [r["accepted"] for r in summary["rounds"]]
    assert min(by_round) >= WALKS
    run_dir = RunDir.open(str(run.folder))
    assert run_dir.committed_rounds()[-1] == ROUNDS - 1 and (run.folder / "target" / "config.json").exists()


def committed_samples(folder: Path) -> list:
    """The samples in parts that a committed step names."""
    run = RunDir.open(str(folder))
    history = read_history(data for _, data in Segments(run).read_segments().segments)
    parts = [part for record in history for part in record.parts]
    return list(SampleStore(run).iter_samples(parts))
