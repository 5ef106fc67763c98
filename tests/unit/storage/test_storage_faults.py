"""Disk full, permission lost, slow storage: a clear error, nothing half-written counts, and the run can go on."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest
from faulty_storage import Fault, faulty_filesystem
from small_disk import small_disk

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.run_state import DriverState, read_state, write_state
from bohdi_ray.storage import places
from bohdi_ray.storage.lease import Lease
from bohdi_ray.storage.node_files import on_this_node, plain_files, scratch_of, upload
from bohdi_ray.storage.retention import delete_checkpoints
from bohdi_ray.storage.run_dir import RunDir, checkpoint_dir
from bohdi_ray.storage.samples import SampleStore
from bohdi_ray.storage.segments import Segments
from bohdi_ray.training.checkpoints import (
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
from bohdi_ray.training.checkpoints import (
    write_state as write_round_state,
)

KINDS = {
    errno.ENOSPC: (r"the disk is full .*Free some space.*bohdi resume RUN", "disk full"),
    errno.EDQUOT: (r"the disk is full .*Free some space.*bohdi resume RUN", "quota"),
    errno.EACCES: (r"permission is denied .*Mend the permissions.*bohdi resume RUN", "permission lost"),
    errno.EROFS: (r"permission is denied .*Mend the permissions.*bohdi resume RUN", "read-only"),
    errno.EIO: (r"the storage failed .*Look at the storage.*bohdi resume RUN", "broken"),
}


@pytest.fixture
def fault() -> Fault:
    return Fault()


@pytest.fixture
def faulty_run(tmp_path: Path, config: FusionConfig, fault: Fault) -> RunDir:
    return RunDir.create(str(tmp_path / "run"), config, {}, faulty_filesystem(fault))


WRITES = {
    "segment": (lambda run, table: Segments(run).write_segment(1, b'{"new": 1}\n'), "tree/segment-00000001"),
    "sample part": (lambda run, table: SampleStore(run).write_part(0, 1, table), "samples/part-r0000-s001.parquet"),
    "lease": (lambda run, table: Lease(run).acquire(), "lease.json"),
    "progress": (lambda run, table: write_state(run, DriverState(num_drivers=2)), "progress.json"),
    "commit": (lambda run, table: run.commit(checkpoint_dir(1), {"round": 1}), "checkpoints/round-1/COMMIT"),
    "config": (lambda run, table: run.write_bytes("config.yaml", b"run_dir: x\n"), "config.yaml"),
}


@pytest.mark.parametrize("number", KINDS, ids=lambda number: KINDS[number][1])
@pytest.mark.parametrize("kind", WRITES)
def test_a_write_that_fails_says_what_to_do_and_leaves_what_was_there(faulty_run, fault, make_sample, kind, number):
    from bohdi_ray.storage.sample_table import to_table

    write, name = WRITES[kind]
    table = to_table([make_sample()])
    Segments(faulty_run).write_segment(0, b"{}\n")
    before = faulty_run.read_bytes("config.yaml")
    fault.arm(f"write .*{name}$", number)
    with pytest.raises(RunDirError, match=KINDS[number][0]) as caught:
        write(faulty_run, table)
    assert name.rpartition("/")[2] in str(caught.value)
    assert faulty_run.read_bytes("config.yaml") == before
    assert Segments(faulty_run).read_segments().segments == [(0, b"{}\n")]
    assert not faulty_run.exists(name) or name == "config.yaml"
    fault.mend()
    write(faulty_run, table)
    assert faulty_run.exists(name)


def test_half_a_segment_counts_for_nothing_and_is_written_again(faulty_run, fault):
    Segments(faulty_run).write_segment(0, b"{}\n")
    fault.arm("write .*segment-00000001", errno.ENOSPC, half=True)
    with pytest.raises(RunDirError, match="the disk is full"):
        Segments(faulty_run).write_segment(1, b'{"a": "long enough for half of it to be rubbish"}\n')
    assert faulty_run.names("tree") == ["segment-00000000", "segment-00000001"]
    read = Segments(faulty_run).read_segments()
    assert read.segments == [(0, b"{}\n")] and read.damaged is not None
    fault.mend()
    Segments(faulty_run).write_segment(1, b"{1}\n")
    assert Segments(faulty_run).read_segments().segments == [(0, b"{}\n"), (1, b"{1}\n")]


def test_a_file_that_is_not_there_is_no_failure_of_storage(faulty_run):
    with pytest.raises(FileNotFoundError):
        faulty_run.read_bytes("tree/none")


@pytest.mark.parametrize("operation", ["read", "look", "list", "delete"])
def test_reading_and_deleting_without_permission_are_told_too(faulty_run, fault, operation):
    faulty_run.write_bytes("tree/a", b"1")
    fault.arm(f"{operation} ", errno.EACCES)
    actions = {
        "read": lambda: faulty_run.read_bytes("tree/a"),
        "look": lambda: faulty_run.exists("tree/a"),
        "list": lambda: faulty_run.names("tree"),
        "delete": lambda: faulty_run.delete("tree/a"),
    }
    with pytest.raises(RunDirError, match="permission is denied"):
        actions[operation]()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_run_that_cannot_begin_is_refused_with_its_directory(tmp_path, config, fault, number):
    fault.arm("write .*(writable|config)", number)
    with pytest.raises(ConfigError, match="it cannot be written") as caught:
        RunDir.create(str(tmp_path / "run"), config, {}, faulty_filesystem(fault))
    assert caught.value.field == "run_dir" and os.strerror(number) in str(caught.value)


def test_a_full_disk_is_told_by_the_metrics_too(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full")
    metrics = Metrics(RunDir(tmp_path))
    with open("/dev/full", "a", buffering=1, encoding="utf-8") as full:
        metrics._lines._file = full
        with pytest.raises(RunDirError, match="the disk is full"):
            metrics.log("round", round=0)
        with contextlib.suppress(OSError):  # what could not be written is still there
            full.close()


def test_what_writers_of_weights_say_of_a_full_disk_is_understood():
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(RunDirError, match="the disk is full"), places.storage_errors("RUN/weights", "write"):
        raise Exception(said)
    with pytest.raises(ZeroDivisionError), places.storage_errors("RUN/weights", "write"):
        raise ZeroDivisionError


# -- checkpoints -------------------------------------------------------------------------------------------------------


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
    from bohdi_ray.storage import node_files

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

    monkeypatch.setattr(places, "_filesystem_of", resolve)
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
        patch.setattr("bohdi_ray.training.checkpoints.sync", full)
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
    from bohdi_ray.training.checkpoints import optimizer_to_load

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
                delete = places.place_of(round_dir(checkpoints, 1)).delete
                disk.drain()
                delete()
        else:
            pytest.fail("20 pages are enough")
        assert reached == {ResumePoint(0, 1, 1, 0), ResumePoint(0, 1, 1, 1)}
        assert resume_point(checkpoints, True) == ResumePoint(1, 2, 2, 1)
