"""One run has one owner; a claim ends with its heartbeat or its process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from bohdi_ray.errors import RunDirError
from bohdi_ray.run.lease import LEASE, Lease
from bohdi_ray.run.run_dir import RunDir


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_second_owner_is_refused_with_owner_age_and_remedy(run: RunDir):
    clock = Clock()
    Lease(run, "first", clock=clock).acquire()
    clock.now += 30
    second = Lease(run, "second", stale_after_s=120, clock=clock)
    with pytest.raises(RunDirError, match=r"in use by first \(heartbeat 30 s ago\).*120 s the claim ends"):
        second.acquire()


def test_a_claim_of_the_future_never_ends_by_its_age_and_says_what_does(run: RunDir):
    ahead, clock = Clock(), Clock()
    ahead.now += 5000
    Lease(run, "first", clock=ahead).acquire()
    with pytest.raises(RunDirError, match=r"remove .*lease\.json"):
        Lease(run, "second", clock=clock).acquire()


def test_a_renewed_claim_stays_and_a_stale_one_ends(run: RunDir):
    clock = Clock()
    first, second = Lease(run, "first", clock=clock), Lease(run, "second", clock=clock)
    first.acquire()
    clock.now += 100
    first.renew()
    clock.now += 100
    with pytest.raises(RunDirError):
        second.acquire()
    clock.now += 21
    second.acquire()
    with pytest.raises(RunDirError, match="second holds it now"):
        first.renew()
    first.release()


def test_a_released_run_is_free(run: RunDir):
    first = Lease(run, "first")
    first.acquire()
    first.release()
    Lease(run, "second").acquire()
    with pytest.raises(RunDirError, match="was lost"):
        first.renew()


def test_the_claim_of_a_dead_process_of_this_machine_ends_at_once(run: RunDir):
    Lease(run, "killed").acquire()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    record = json.loads(run.read_bytes(LEASE)) | {"pid": ended.pid}
    run.write_bytes(LEASE, json.dumps(record).encode())
    if record["machine"] is None:
        pytest.skip("this system does not say where a process id is valid")
    assert Lease(run, "next").acquire(), "it was not given back"


def test_what_a_lost_owner_left_running_finds_out_before_it_writes(run: RunDir):
    clock = Clock()
    first = Lease(run, "first", clock=clock)
    assert not first.acquire()
    claim = pickle.loads(pickle.dumps(first.claim))
    claim.check()
    clock.now += 121
    assert Lease(run, "second", clock=clock).acquire()
    with pytest.raises(RunDirError, match="second holds it now"):
        claim.check()
    run.delete(LEASE)
    with pytest.raises(RunDirError, match="nobody holds it now"):
        claim.check()


def test_a_dead_process_id_of_another_machine_says_nothing(run: RunDir):
    Lease(run, "elsewhere").acquire()
    record = json.loads(run.read_bytes(LEASE)) | {"pid": 2**22 + 1, "machine": "other/boot/pid"}
    run.write_bytes(LEASE, json.dumps(record).encode())
    with pytest.raises(RunDirError, match="elsewhere"):
        Lease(run, "next").acquire()
