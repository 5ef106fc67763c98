"""A storm: a run over which processes are killed at random times, and what came of it beside the undisturbed run.

One Ray session lasts for all drivers, as a cluster does; only processes of that session are killed, and only those of
the driver that is running. The seed decides which kinds are killed in which order, after which committed step, and how
long after it; what is under way then is a matter of timing.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
import storm_run
from accounts import accounts_of, weights_differ

from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments

ENGINE, HARVEST, MANAGER, QUEUE, TRAIN, DRIVER = (
    "engine",
    "harvest_worker",
    "tree_manager",
    "queue",
    "train_worker",
    "driver",
)
KINDS = (ENGINE, HARVEST, MANAGER, QUEUE, TRAIN, DRIVER)
CHEAP = (ENGINE, HARVEST, MANAGER, QUEUE)  # what comes back within a few seconds
# The second names are of tests that stop a run at points.
ACTOR_CLASSES = {
    ENGINE: ("StormEngine", "PointedEngine"),
    MANAGER: ("TreeManagerActor", "PointedManager"),
    QUEUE: ("SampleQueueActor", "PointedQueue"),
    TRAIN: ("RayTrainWorker",),
}
HARVEST_TASKS = re.compile(r"ray::bohdi/[^/]+/(harvest|sprout|samples)\b")  # their names are their processes' titles
LONGEST_PAUSE_S = 3.0
VICTIM_S = 60.0  # for somebody of the wanted kind to be there
STILL_S = 240.0  # without a new segment or a trained round, after which a run counts as stuck
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kill:
    kind: str
    after_segments: int  # committed segments to wait for
    pause_s: float  # and how long after that


def schedule(num_kills: int, num_segments: int, seed: int) -> list[Kill]:
    """A tenth of the kills for each kind, the rest for the kinds that come back within seconds; spread over the run."""
    rng = random.Random(seed)
    kinds = list(KINDS) * max(1, num_kills // 10)
    kinds += [CHEAP[i % len(CHEAP)] for i in range(num_kills - len(kinds))]
    rng.shuffle(kinds)
    places = sorted(rng.uniform(0, 0.8 * num_segments) for _ in kinds)
    return [Kill(kind, int(place), rng.uniform(0, LONGEST_PAUSE_S)) for kind, place in zip(kinds, places, strict=True)]


def log(*words: Any) -> None:
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


class Drivers:
    """The drivers of one run, one at a time, in processes of their own."""

    def __init__(self, folder: Path, rounds: int, address: str):
        self.folder, self._rounds, self._address = folder, rounds, address
        self._process: subprocess.Popen[bytes] | None = None
        self.num_started = 0

    def start(self) -> None:
        job = storm_run.job_file(str(self.folder))
        job.unlink(missing_ok=True)
        how = "resume" if (self.folder / "config.yaml").exists() else "start"
        env = {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "PYTHONPATH": python_path()}
        with self.log_path.open("a") as out:
            out.write(f"--- driver {self.num_started}: {how}\n")
            out.flush()
            command = [sys.executable, storm_run.__file__, str(self.folder), how, self._address, str(self._rounds)]
            self._process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
        self.num_started += 1

    @property
    def log_path(self) -> Path:
        return Path(f"{self.folder}.log")

    @property
    def job(self) -> str | None:
        """The Ray job of the driver that runs; None until it has joined."""
        return storm_run.job_of(str(self.folder))

    def poll(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)


def python_path() -> str:
    paths = [str(TESTS), str(TESTS / "chaos"), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.pathsep.join(paths)


def start_ray() -> str:
    """A Ray session of this process; its address."""
    os.environ["PYTHONPATH"] = python_path()
    ray.init("local", num_cpus=16, num_gpus=0, include_dashboard=False, log_to_driver=False)
    return ray.get_runtime_context().gcs_address


def victims(kind: str, job: str) -> list[int]:
    """Process ids of this kind that work for the driver with this Ray job."""
    if kind == HARVEST:
        return [child.pid for child in psutil.Process().children(recursive=True) if HARVEST_TASKS.match(_title(child))]
    from ray._private.state import state

    actors = state.actor_table(None, ray.JobID(bytes.fromhex(job)), "ALIVE").values()
    return sorted(a["Pid"] for a in actors if a["ActorClassName"].endswith(ACTOR_CLASSES[kind]) and a["Pid"])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass
class Storm:
    """What happened while the run was under way."""

    drivers: Drivers
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    ended_by_error: list[str] = field(default_factory=list)  # drivers that gave up: no death of a part may do that
    seen: dict[int, bytes] = field(default_factory=dict)  # segments, as they were when they appeared
    _struck: set[int] = field(default_factory=set)

    def watch(self) -> None:
        """Notes new segments; brings up another driver when one has given up."""
        self.read_segments()
        code = self.drivers.poll()
        if code not in (None, 0):
            tail = self.drivers.log_path.read_text().splitlines()[-1:]
            self.ended_by_error.append(f"exit code {code}: {' '.join(tail)}")
            log("a driver gave up:", self.ended_by_error[-1])
            self.drivers.start()

    def read_segments(self) -> None:
        if not (self.drivers.folder / "config.yaml").exists():
            return
        segments = Segments(RunDir.open(str(self.drivers.folder)))
        for number, data in segments.read_segments(len(self.seen)).segments:
            self.seen[number] = data

    @property
    def is_over(self) -> bool:
        return self.drivers.poll() == 0

    def strike(self, kill: Kill, until: float) -> bool:
        """Waits for the moment, then kills one; False when the run was over first or the time was up."""
        while len(self.seen) < kill.after_segments or self.drivers.job is None:
            if self.is_over or time.monotonic() > until:
                return False
            self.watch()
            time.sleep(0.05)
        time.sleep(kill.pause_s)
        patience = time.monotonic() + VICTIM_S
        while not self.is_over and time.monotonic() < min(patience, until):
            self.watch()
            if self.drivers.job is not None and self._kill_one(kill.kind):
                self.kills[kill.kind] += 1
                return True
            time.sleep(0.02)
        return False

    def _kill_one(self, kind: str) -> bool:
        if kind == DRIVER:
            if (self.drivers.folder / "summary.json").exists():
                return False  # it is ending, and what has ended is not resumed
            self.drivers.kill()
            self.drivers.start()
            return True
        # Nobody is killed twice: the dead are listed for a moment longer.
        found = [pid for pid in victims(kind, self.drivers.job or "") if pid not in self._struck]
        if not found:
            return False
        pid = self.rng.choice(found)
        self._struck.add(pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def undisturbed(folder: Path, rounds: int, address: str, minutes: float) -> float:
    """The same run without a storm, in a driver of its own; its wall time, s."""
    drivers = Drivers(folder, rounds, address)
    began = time.monotonic()
    drivers.start()
    try:
        while drivers.poll() is None and time.monotonic() < began + 60 * minutes:
            time.sleep(0.2)
        assert drivers.poll() == 0, drivers.log_path.read_text()
    finally:
        drivers.kill()
    return time.monotonic() - began


def run_storm(folder: Path, num_kills: int, seed: int, rounds: int, minutes: float) -> dict[str, Any]:
    """Both runs, and their comparison: the object that `make chaos` prints."""
    until = time.monotonic() + 60 * minutes
    address = start_ray()
    try:
        storm_run.make_model(folder / "model")
        calm_s = undisturbed(folder / "calm", rounds, address, minutes)
        num_segments = len(Segments(RunDir.open(str(folder / "calm"))).numbers())
        log(f"undisturbed: {rounds} rounds, {num_segments} segments in {calm_s:.0f} s")
        began = time.monotonic()
        storm = weather(folder / "run", rounds, address, schedule(num_kills, num_segments, seed), seed, until)
        return figures(folder, storm, time.monotonic() - began, calm_s)
    finally:
        ray.shutdown()


def weather(folder: Path, rounds: int, address: str, kills: list[Kill], seed: int, until: float) -> Storm:
    """The run under the storm, to its end or until the time is up."""
    storm = Storm(Drivers(folder, rounds, address), random.Random(seed + 1))
    storm.drivers.start()
    try:
        for number, kill in enumerate(kills):
            hit = storm.strike(kill, until)
            log(
                f"{number + 1}/{len(kills)} {kill.kind}: {'killed' if hit else 'not there'} "
                f"({len(storm.seen)} segments, driver {storm.drivers.num_started})"
            )
        progress, at = len(storm.seen), time.monotonic()
        while not storm.is_over and time.monotonic() < min(until, at + STILL_S):
            storm.watch()
            if len(storm.seen) != progress:
                progress, at = len(storm.seen), time.monotonic()
            time.sleep(0.1)
        storm.read_segments()
    finally:
        storm.drivers.kill()
    return storm


def figures(folder: Path, storm: Storm, wall_s: float, calm_s: float) -> dict[str, Any]:
    run, calm = folder / "run", folder / "calm"
    finished = storm.is_over
    result: dict[str, Any] = {
        "kills": {kind: storm.kills[kind] for kind in KINDS},
        "num_kills": storm.kills.total(),
        "finished": finished,
        "ended_by_error": storm.ended_by_error,
        "drivers": storm.drivers.num_started,
        "undisturbed_s": round(calm_s, 1),
        "storm_s": round(wall_s, 1),
        "slowdown": round(wall_s / calm_s, 2),
    }
    if not finished:
        return result
    told = accounts_of(run, storm.seen)
    digests = [json.loads((one / "summary.json").read_text())["tree_digest"] for one in (run, calm)]
    different = weights_differ(run, calm)
    return result | {
        "lost": len(told.lost) + told.issued - told.committed - told.failed,
        "trained_twice": told.trained_twice,
        "not_trained": told.not_trained,
        "misplaced": told.misplaced,
        "digest_equal": digests[0] == digests[1],
        "weights_equal": not different,
        "weights_tolerance": 0,
        "tickets": {"issued": told.issued, "committed": told.committed, "failed": told.failed},
        "conserved": told.conserved and told.in_flight == 0,
        "samples_without_segment": len(told.unknown),
        "bandit_counts_equal": not told.miscounted,
    }
