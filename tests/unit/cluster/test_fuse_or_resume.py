"""cluster/fuse_or_resume.py: begins a run or continues with it, and waits for what a killed driver left."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

from bohdi_ray.run.run_dir import RunDir

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("fuse_or_resume", ROOT / "cluster/fuse_or_resume.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_run(folder: Path) -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text("{}\n")
    return str(folder)


def lease(folder: str, age_s: float, token: str = "t") -> None:
    held = {"owner": "a:1", "token": token, "heartbeat_at": time.time() - age_s, "machine": "elsewhere", "pid": 1}
    (Path(folder) / "lease.json").write_text(json.dumps(held))


def test_a_new_place_begins_a_run_and_a_run_is_gone_on_with(program, tmp_path):
    new = str(tmp_path / "new run")
    assert program.arguments("c.yaml", new, ["stop.rounds=2"]) == [
        "fuse",
        "c.yaml",
        f'run_dir="{new}"',
        "stop.rounds=2",
    ]
    assert program.arguments("c.yaml", a_run(tmp_path / "old"), [])[-1] == "--resume"


def test_a_claim_that_gets_no_heartbeat_is_waited_for(program, tmp_path, monkeypatch):
    run, said = a_run(tmp_path / "run"), []
    monkeypatch.setattr(program, "LOOK_S", 0.05)
    lease(run, age_s=119.6)
    begun = time.monotonic()
    program.wait_for_lease(RunDir(run), said.append)
    assert time.monotonic() - begun >= 0.3
    assert len(said) == 1 and "a:1" in said[0]


def test_a_claim_that_is_renewed_or_given_back_is_not_waited_for(program, tmp_path, monkeypatch):
    run = a_run(tmp_path / "run")
    looks = iter([lambda: lease(run, 0, "another"), lambda: (Path(run) / "lease.json").unlink()])
    monkeypatch.setattr(program.time, "sleep", lambda _: next(looks)())
    for age_s in (1, 1):
        lease(run, age_s)
        program.wait_for_lease(RunDir(run))
    assert next(looks, None) is None
