"""A disk that runs full or is sealed under a run: a clear end, and the run goes on once that is mended."""

import threading
import time

import pytest
from long_cases import long
from scripted_parts import scripted_config, scripted_parts
from small_disk import SmallDisk, small_disk

from bohdi_ray.cli.errors import RUN_FAILED, exit_code
from bohdi_ray.errors import BohdiError
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(240)]


def config(folder):
    return scripted_config(str(folder), meditation={"steps": 3, "walks_per_step": 8})


@pytest.fixture(scope="module")
def digest(ray_session, tmp_path_factory) -> str:
    """Of the undisturbed run."""
    return fuse(config(tmp_path_factory.mktemp("whole") / "run"), parts=scripted_parts()).tree_digest


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        yield disk


@pytest.mark.parametrize("free_kb", [40, *(long(20, free_kb) for free_kb in (100, 180))])
def test_a_run_that_fills_its_disk_says_so_and_goes_on_when_there_is_room(disk: SmallDisk, digest, free_kb):
    disk.fill(free_kb * 1024)
    with pytest.raises(BohdiError, match=r"the disk is full.*Free some space.*bohdi resume") as failed:
        fuse(config(disk.folder / "run"), parts=scripted_parts())
    assert exit_code(failed.value) == RUN_FAILED
    disk.drain()
    assert fuse(config(disk.folder / "run"), resume=True, parts=scripted_parts()).tree_digest == digest


def test_a_run_that_may_not_write_any_more_says_so_and_goes_on_when_it_may(disk: SmallDisk, digest):
    run = RunDir(disk.folder / "run")

    def seal() -> None:
        deadline = time.monotonic() + 60
        while not run.exists("tree/segment-00000003") and time.monotonic() < deadline:
            time.sleep(0.01)
        disk.seal("run/tree")

    sealing = threading.Thread(target=seal)
    sealing.start()
    with pytest.raises(BohdiError, match=r"permission is denied.*Correct the permissions.*bohdi resume"):
        fuse(config(disk.folder / "run"), parts=scripted_parts(answer_s=0.3, step_s=0.1))
    sealing.join()
    disk.open_again("run/tree")
    assert fuse(config(disk.folder / "run"), resume=True, parts=scripted_parts()).tree_digest == digest
