"""Disk full, permission lost, slow storage: a clear error, nothing half-written counts, and the run can go on."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest
from faulty_storage import KINDS, Fault, faulty_filesystem

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.run import filesystem
from bohdi_ray.run.lease import Lease
from bohdi_ray.run.run_dir import RunDir, checkpoint_dir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.state import DriverState, write_state


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
    from bohdi_ray.examples.sample_table import to_table

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
    with pytest.raises(RunDirError, match="the disk is full"), filesystem.storage_errors("RUN/weights", "write"):
        raise Exception(said)
    with pytest.raises(ZeroDivisionError), filesystem.storage_errors("RUN/weights", "write"):
        raise ZeroDivisionError
