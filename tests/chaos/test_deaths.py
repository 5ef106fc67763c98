"""Each part of a run dies in each phase; the run ends as if nothing had happened, within a deadline.

A run is stopped at a point of the phase (`pointed_parts.py` lists them) and the victim is killed with SIGKILL; or the
process that comes to the point kills itself there. A dead driver is followed by another one that resumes the run.
Where the trainer is concerned it is the real one, on a tiny model; elsewhere a scripted one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pointed_parts
import pytest
import storm_run
from accounts import accounts_of
from pointed_parts import ROUNDS, TRAINERS_POINTS, pointed_config
from points import DIE, HOLD, arm, release, wait_until_reached
from storm import DRIVER, ENGINE, HARVEST, MANAGER, QUEUE, TRAIN, python_path, victims

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.tree_snapshots import restore
from bohdi_ray.tree.record.history import read_history

DEADLINE_S = 180.0  # for the whole run, death and recovery included; alone on 2 cores at most 55 s
REACHED_S = 90.0
pytestmark = pytest.mark.timeout(2 * DEADLINE_S)

HARVEST_POINTS = ("walking", "sprouting", "asking", "answering", "judging", "committing", "committed")
BOUNDARY_POINTS = ("drawing", "drawn", "queueing", "queued", "snapshotting")
WEIGHTS_POINTS = ("reporting", "reported", "loading")
EVERYWHERE = ("idle", *HARVEST_POINTS, *BOUNDARY_POINTS, *WEIGHTS_POINTS, *TRAINERS_POINTS)
# Where a victim comes to the point itself, it kills itself there; elsewhere the run is held and it is killed.
OWN_POINTS = {
    ENGINE: ("idle", "sprouting", "asking", "answering", "judging", "loading"),
    HARVEST: ("writing", "written"),
    MANAGER: ("walking", "walked", "committing", "committed", "drawing", "drawn", "snapshotting"),
    QUEUE: ("queueing", "queued", "reporting", "reported"),
    TRAIN: TRAINERS_POINTS,
    DRIVER: (),
}
# Harvest workers exist only while something is harvested.
HELD_POINTS = {
    ENGINE: EVERYWHERE,
    HARVEST: ("sprouting", "asking", "answering", "judging"),
    MANAGER: EVERYWHERE,
    QUEUE: EVERYWHERE,
    TRAIN: tuple(point for point in EVERYWHERE if point != "idle"),  # while idle it has not started yet
    DRIVER: (*EVERYWHERE, "walked", "writing", "written"),
}
CASES = [
    (victim, point) for victim in OWN_POINTS for point in dict.fromkeys((*OWN_POINTS[victim], *HELD_POINTS[victim]))
]
# The least that shows the promise: two processes that hold what nobody else does; drivers are killed by
# integration/test_resume.py too. One for each victim is left to `make test-long`, and all of them to `make deaths`.
CHOSEN = {(ENGINE, "judging"), (MANAGER, "committed")}
LONG = {
    (DRIVER, "drawn"): 35,
    (ENGINE, "loading"): 15,
    (HARVEST, "asking"): 15,
    (HARVEST, "written"): 15,
    (MANAGER, "walked"): 15,
    (MANAGER, "snapshotting"): 15,
    (QUEUE, "reporting"): 15,
    (TRAIN, "publishing"): 50,
    (DRIVER, "reporting"): 25,
}
assert set(CASES) >= CHOSEN | LONG.keys()


def marks_of(case: tuple[str, str]) -> tuple:
    """When a case runs."""
    if case in CHOSEN:
        return ()
    return (pytest.mark.long(LONG[case]),) if case in LONG else (pytest.mark.every_death,)


PARAMETERS = [pytest.param(*case, id="-".join(case), marks=marks_of(case)) for case in CASES]


@pytest.mark.parametrize(("victim", "point"), PARAMETERS)
def test_a_death_changes_nothing(victim, point, address, undisturbed, model, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    (tmp_path / "model").symlink_to(model)
    pointed_parts.install(monkeypatch.setattr)
    real = victim == TRAIN or point in TRAINERS_POINTS
    parts = pointed_parts.pointed_parts(str(folder), real)
    began = time.monotonic()
    if victim == DRIVER:
        kill_driver_at(point, folder, address, "real" if real else "scripted")
        summary = fuse(pointed_config(str(folder)), resume=(folder / "config.yaml").exists(), parts=parts)
    elif point in OWN_POINTS[victim]:
        arm(point, folder, DIE)
        summary = fuse(pointed_config(str(folder)), parts=parts)
        assert not is_alive(wait_until_reached(point, folder, 0))
    else:
        arm(point, folder, HOLD)
        killer = Killer(victim, point, folder)
        summary = fuse(pointed_config(str(folder)), parts=parts)
        killer.join()
    assert time.monotonic() - began < DEADLINE_S
    accounts_of(folder).check()
    assert accounts_of(folder).in_flight == 0
    whole, digest = undisturbed
    assert summary.tree_digest == digest
    assert samples_of(folder) == samples_of(whole)
    assert rows_of(folder) == rows_of(whole)
    assert RunDir.open(str(folder)).committed_rounds()[-1] == ROUNDS - 1


class Killer(threading.Thread):
    """Kills one victim of this process's run while the run is held at the point, then lets the run go on."""

    def __init__(self, victim: str, point: str, folder: Path):
        super().__init__()
        self._victim, self._point, self._folder = victim, point, folder
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            wait_until_reached(self._point, self._folder, REACHED_S)
            pid = self._found()
            os.kill(pid, signal.SIGKILL)
            while is_alive(pid):
                time.sleep(0.01)
            check_journal(self._folder)
        except BaseException as failure:
            self._failure = failure
        finally:
            release(self._point, self._folder)

    def _found(self) -> int:
        job = storm_run.job_of(str(self._folder))
        deadline = time.monotonic() + REACHED_S
        while not (found := victims(self._victim, job or "")):
            assert time.monotonic() < deadline, f"no {self._victim} at {self._point}"
            time.sleep(0.05)
        return found[0]

    def join(self, timeout: float | None = 60) -> None:
        super().join(timeout)
        assert not self.is_alive()
        if self._failure is not None:
            raise self._failure


def kill_driver_at(point: str, folder: Path, address: str, trainer: str) -> None:
    """A driver of the run in a process of its own, killed at the point."""
    arm(point, folder, HOLD)
    command = [sys.executable, pointed_parts.__file__, str(folder), address, trainer]
    log = Path(f"{folder}.log")
    with log.open("w") as out:
        driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": python_path()}, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + REACHED_S
        while True:
            try:
                wait_until_reached(point, folder, 0.1)
                break
            except TimeoutError:
                assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        assert driver.poll() is None
    finally:
        driver.kill()
        driver.wait(30)
    check_journal(folder)
    release(point, folder)


def check_journal(folder: Path) -> None:
    """Tickets issued = committed + failed + in flight, in what a reader of the journal sees at this moment."""
    run = RunDir.open(str(folder))
    stats = restore(run.config(), None, run).manager.stats()
    ended = stats["num_committed"] + sum(stats["num_failed"].values())
    assert stats["num_issued"] == ended + stats["num_in_flight"], stats


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def samples_of(folder: Path) -> dict[str, str]:
    return {sample.sample_id: sample.question for sample in SampleStore(RunDir.open(str(folder))).iter_samples()}


def rows_of(folder: Path) -> list[tuple[str, ...] | None]:
    segments = Segments(RunDir.open(str(folder))).read_segments().segments
    return [record.row_sample_ids for record in read_history(data for _, data in segments)]
