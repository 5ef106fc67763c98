"""The sockets of an engine's processes are in a folder that goes with the engine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.vllm import ipc_folder
from bohdi_ray.engines.vllm.api import set_environment
from bohdi_ray.engines.vllm.ipc_folder import PREFIX, VARIABLE, clear_left_folders, make_ipc_folder, remove_ipc_folder
from bohdi_ray.engines.vllm.orphan_guard import OWNER_VARIABLE

ROOT = Path(ipc_folder.__file__).parents[2]


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_an_engines_folder_is_its_own_and_goes_with_all_that_is_in_it(temporary):
    folder = make_ipc_folder()
    assert folder.parent == temporary and os.environ[VARIABLE] == str(folder)
    (folder / "socket").write_text("")
    remove_ipc_folder()
    remove_ipc_folder()
    assert list(temporary.iterdir()) == []
    again = make_ipc_folder()
    assert again.parent == temporary, "not within the folder of the engine before"


def test_where_the_user_wants_the_sockets_they_are_and_that_folder_stays(temporary, monkeypatch):
    (temporary / "mine").mkdir()
    monkeypatch.setenv(VARIABLE, str(temporary / "mine"))
    remove_ipc_folder()
    assert (temporary / "mine").is_dir()
    assert make_ipc_folder().parent == temporary / "mine"
    remove_ipc_folder()
    assert list(temporary.iterdir()) == [temporary / "mine"]


def test_an_engine_sets_it_before_vllm_reads_it(temporary, monkeypatch):
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", OWNER_VARIABLE):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    set_environment(VllmModel(name="m", model="./none"), "cuda")
    assert Path(os.environ[VARIABLE]).name.startswith(PREFIX) and Path(os.environ[VARIABLE]).is_dir()


def test_what_a_killed_engine_left_goes_with_the_next_start_and_what_is_in_use_stays(temporary):
    program = "import time; from bohdi_ray.engines.vllm.ipc_folder import make_ipc_folder as make; "
    program += "print(make(), flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    owners = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    try:
        killed, alive = (Path(owner.stdout.readline().strip()) for owner in owners)
        (killed / "socket").write_text("")
        owners[0].kill()
        owners[0].wait(20)
        assert killed.is_dir() and alive.is_dir()
        mine = make_ipc_folder()
        assert set(temporary.iterdir()) == {alive, mine}
        clear_left_folders()
        assert set(temporary.iterdir()) == {alive, mine}
    finally:
        for owner in owners:
            owner.kill()
            owner.wait(20)
    remove_ipc_folder()
    clear_left_folders()
    assert list(temporary.iterdir()) == []
