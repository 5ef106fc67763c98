"""Disk full, permission lost while a checkpoint is written: the last COMMIT stays loadable, the next try works."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from faulty_storage import KINDS, Fault, faulty_filesystem
from small_disk import small_disk

from bohdi_ray.errors import RunDirError
from bohdi_ray.run import filesystem as filesystem_module
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.node_files import on_this_node, plain_files, scratch_of, upload
from bohdi_ray.run.retention import delete_checkpoints
from bohdi_ray.run.run_dir import RunDir, checkpoint_dir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, read_state, write_state
from bohdi_ray.training.weights.checkpoints import (
    ResumePoint,
    RoundState,
    commit_folder,
    committed_rounds,
    forget_optimizer,
    is_committed,
    optimizer_dir,
    resume_point,
    round_dir,
    start_folder,
    write_metrics,
)
from bohdi_ray.training.weights.checkpoints import (
    write_state as write_round_state,
)


def write_round(checkpoints: str, round: int) -> None:
    """As rank 0 of the trainer writes one: weights, state, COMMIT, figures, then the optimizer."""
    folder = round_dir(checkpoints, round)
    start_folder(folder)
    weights = Path(scratch_of(folder)) / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"w%d" % round)
    write_round_state(folder, RoundState(round, round + 1, round + 1, round + 1, 1, False))
    commit_folder(folder)
    write_metrics(folder, {"loss": 1.0})
    optimizer = optimizer_dir(folder)
    start_folder(optimizer)
    (Path(scratch_of(optimizer)) / "state").mkdir()
    (Path(scratch_of(optimizer)) / "state" / "rank-0.pt").write_bytes(b"o%d" % round)
    upload(optimizer)
    commit_folder(optimizer)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of this node in a folder of the test."""
    from bohdi_ray.run import node_files

    (tmp_path / "node").mkdir()
    monkeypatch.setattr(node_files.tempfile, "tempdir", str(tmp_path / "node"))
    node_files._own_scratch.cache_clear()
    yield tmp_path / "node"
    node_files._own_scratch.cache_clear()


@pytest.fixture
def faulty_address(tmp_path: Path, node: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of checkpoints on a filesystem with faults."""
    filesystem = faulty_filesystem(fault)
    (tmp_path / "store").mkdir()

    def resolve(location: str):
        return filesystem, str(tmp_path / "store" / location.partition("://")[2])

    monkeypatch.setattr(filesystem_module, "_filesystem_of", resolve)
    return "faulty://run/checkpoints"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    "name", ["round-1/weights/model", "round-1/state.json", "round-1/COMMIT", "optimizer/state/", "optimizer/COMMIT"]
)
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_the_last_commit_stays_loadable_whichever_file_of_the_next_one_fails(
    faulty_address, fault, node, name, number, half
):
    if half and name.endswith("COMMIT"):
        half = False  # one put of a few bytes: there or not
    write_round(faulty_address, 0)
    before = resume_point(faulty_address, True)
    fault.arm(f"write .*round-1.*{name.removeprefix('round-1/')}", number, half)
    with pytest.raises(RunDirError, match=KINDS[number][0]):
        write_round(faulty_address, 1)
    fault.mend()
    assert resume_point(faulty_address, True) == ResumePoint(
        0, 1, 1, 1 if "optimizer" in name else 0
    ) and before == ResumePoint(0, 1, 1, 0)
    with on_this_node(round_dir(faulty_address, 0)) as folder:
        assert (folder / "weights" / "model.safetensors").read_bytes() == b"w0"
    with plain_files(optimizer_dir(round_dir(faulty_address, 0))) as folder:
        assert (Path(folder) / "state" / "rank-0.pt").read_bytes() == b"o0"
    folder = round_dir(faulty_address, 1)
    if is_committed(folder):  # as the loop does: a round that is committed is not written again
        start_folder(optimizer_dir(folder))
        commit_folder(optimizer_dir(folder))
    else:
        write_round(faulty_address, 1)
    assert resume_point(faulty_address, True) == ResumePoint(1, 2, 2, 1)


def test_a_full_disk_at_the_commit_of_a_local_round_leaves_the_one_before(tmp_path, monkeypatch):
    write_round(str(tmp_path), 0)

    def full(path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr("bohdi_ray.training.weights.checkpoints.sync", full)
        with pytest.raises(RunDirError, match=r"the disk is full.*bohdi resume RUN"):
            write_round(str(tmp_path), 1)
    assert [state.round for state in committed_rounds(str(tmp_path))] == [0]
    write_round(str(tmp_path), 1)
    assert resume_point(str(tmp_path), True) == ResumePoint(1, 2, 2, 1)


def test_a_deletion_that_breaks_off_leaves_a_folder_that_counts_for_nothing(tmp_path, fault, config):
    run = RunDir.create(str(tmp_path / "run"), config, {}, faulty_filesystem(fault))
    for round in (0, 1):
        run.write_bytes(f"{checkpoint_dir(round)}/weights/w", b"w")
        run.commit(checkpoint_dir(round), {})
    fault.arm("delete .*round-0$", errno.EACCES)
    with pytest.raises(RunDirError, match="permission is denied"):
        delete_checkpoints(run, [0])
    assert run.exists(f"{checkpoint_dir(0)}/weights/w") and run.committed_rounds() == [1]
    fault.mend()
    assert run.clean_uncommitted() == [checkpoint_dir(0)]


def test_on_slow_storage_everything_takes_longer_and_nothing_is_otherwise(faulty_address, fault, tmp_path, config):
    fault.delay_s = 0.01
    began = time.monotonic()
    run = RunDir.create(str(tmp_path / "run"), config, {}, faulty_filesystem(fault))
    lease = Lease(run)
    lease.acquire()
    for number in range(3):
        Segments(run).write_segment(number, b"%d\n" % number)
        lease.renew()
    write_round(faulty_address, 0)
    write_state(run, DriverState(num_drivers=1))
    lease.release()
    assert time.monotonic() - began > 0.01 * fault.calls.total() > 0.2
    assert [number for number, _ in Segments(run).read_segments().segments] == [0, 1, 2]
    assert resume_point(faulty_address, True) == ResumePoint(0, 1, 1, 0)
    assert read_state(run, 1).num_drivers == 1 and not run.exists("lease.json")


def test_a_forgotten_optimizer_is_one_on_any_storage(faulty_address):
    write_round(faulty_address, 0)
    assert forget_optimizer(faulty_address) == 0
    assert committed_rounds(faulty_address)[0].has_optimizer
    from bohdi_ray.training.weights.checkpoints import optimizer_to_load

    assert optimizer_to_load(round_dir(faulty_address, 0), 3) is None


def test_on_a_disk_that_is_really_full_the_last_commit_stays_whichever_write_fails(tmp_path, config):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        checkpoints = str(disk.folder / "checkpoints")
        write_round(checkpoints, 0)
        reached = set()
        for pages in range(20):
            disk.fill(4096 * pages)
            try:
                write_round(checkpoints, 1)
            except RunDirError as error:
                assert "the disk is full" in str(error) and "bohdi resume" in str(error)
            except OSError as error:  # of the test's own writing of weights
                assert error.errno == errno.ENOSPC
            else:
                break
            point = resume_point(checkpoints, True)
            reached.add(point)
            assert Path(checkpoints, "round-0", "weights", "model.safetensors").read_bytes() == b"w0"
            if is_committed(round_dir(checkpoints, 1)):  # all but its optimizer: begun anew for the next try
                delete = filesystem_module.place_of(round_dir(checkpoints, 1)).delete
                disk.drain()
                delete()
        else:
            pytest.fail("20 pages are enough")
        assert reached == {ResumePoint(0, 1, 1, 0), ResumePoint(0, 1, 1, 1)}
        assert resume_point(checkpoints, True) == ResumePoint(1, 2, 2, 1)
