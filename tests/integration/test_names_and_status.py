"""A run's actors and tasks are called what they are, and `bohdi status --address` finds the run by these names."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.actors.live_runs import live_runs
from bohdi_ray.driver import real_components
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.training.weights import versions

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]

BEGUN_S = 60.0


class Meanwhile(threading.Thread):
    """Does something while a run is at work, as soon as its tree manager answers."""

    def __init__(self, run: str, work: Callable[[], Any]):
        super().__init__(daemon=True)
        self._run, self._work = run, work
        self.found: Any = None
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + BEGUN_S
        while time.monotonic() < deadline:
            runs = {run.name: run for run in live_runs()}
            if self._run in runs and (runs[self._run].tree or {}).get("num_committed", 0) > 0:
                self.found = self._work()
                return
            time.sleep(0.5)


def status(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bohdi_ray.cli", "status", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_run_at_work_is_found_by_the_names_of_its_actors(tmp_path):
    import ray

    folder = str(tmp_path / "seen at work")
    address = ray.get_runtime_context().gcs_address
    config = scripted_config(folder, meditation={"steps": 3, "walks_per_step": 8}, stop={"rounds": 2})

    def look() -> Any:
        names = [actor for actor in ray.util.list_named_actors(all_namespaces=True) if "seen_at_work" in actor["name"]]
        return names, status("--address", address)

    meanwhile = Meanwhile("seen_at_work", look)
    fuse(config, parts=scripted_parts(answer_s=0.4))
    meanwhile.join(60)
    names, told = meanwhile.found
    assert {actor["name"] for actor in names} >= {
        f"bohdi/seen_at_work/{what}"
        for what in ("tree", "queue", "directory", "source/ada/0", "source/bob/0", "source/cyd/0", "target/0")
    }
    assert len({actor["namespace"] for actor in names}) == 1
    assert told.returncode == 0, told.stdout + told.stderr
    # The folder is to be seen from here, so the run is judged by its files too.
    assert told.stdout.startswith("healthy: ")
    assert f"on the cluster: seen_at_work in {folder}: round " in told.stdout
    assert "tickets in flight; the trainer" in told.stdout
    assert "; engines: source/ada 1, source/bob 1, source/cyd 1, target 1\n" in told.stdout

    gone = status("--address", address)
    assert (gone.returncode, gone.stdout) == (1, "on the cluster: no run is active there\n")
    ended = status(folder, "--address", address)
    assert ended.returncode == 0 and ended.stdout.startswith("finished: the run ended because stop.rounds = 2")


def test_tasks_with_a_train_workers_resources_say_what_they_do(tmp_path, monkeypatch):
    import ray

    def own_name(*arguments: Any) -> str | None:
        import ray

        return ray.get_runtime_context().get_task_name()

    monkeypatch.setattr(versions, "publish_base", own_name)
    monkeypatch.setattr(versions, "export_target", own_name)
    monkeypatch.setattr(real_components, "_evaluate", own_name)
    config = scripted_config(str(tmp_path / "named"), training={"resources_per_worker": {"CPU": 1}})
    tasks = [
        real_components.publish_base(config, "folder"),
        real_components.evaluate(config, {}, RunDir(config.run_dir), 0),
        real_components.export_weights(config, "weights", str(tmp_path / "out")),
    ]
    assert ray.get(tasks, timeout=60) == [f"bohdi/named/{what}" for what in ("publish", "evaluate", "export")]
