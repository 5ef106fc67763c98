"""One run, one owner: a small file with a heartbeat.

The driver takes the lease after opening the run directory and renews it regularly; a second driver on the same run is
refused. The lease is advisory: two drivers that start within the same second may both get it, and one of them then
finds out at its next `renew`. It never waits.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import msgspec

from bohdi_ray.errors import LeaseLost, RunDirError
from bohdi_ray.run.json_files import decoded
from bohdi_ray.run.run_dir import RunDir

LEASE = "lease.json"
STALE_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Checks the lease before a write on behalf of its holder, in any process: the actors and tasks of a killed driver
    live on for a moment, and must not write into a run that another driver continues."""

    run: RunDir
    token: str

    def check(self) -> None:
        """Raises LeaseLost if another driver owns the run now."""
        held = read_lease(self.run)
        if held is None or held["token"] != self.token:
            holder = "nobody" if held is None else held["owner"]
            raise LeaseLost(
                f"the lease on {self.run.location} was lost: {holder} holds it now. Only one driver may use a "
                "run; make sure that no other one is running and choose another run_dir"
            )


class Held(TypedDict):
    """The content of lease.json."""

    owner: str
    token: str
    heartbeat_at: float
    machine: str | None
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


def read_lease(run: RunDir) -> Held | None:
    """The content of lease.json; None if nobody holds the run. Raises RunDirError if it is damaged, because then it is
    unknown whether the run is in use."""
    try:
        data = run.read_bytes(LEASE)
    except FileNotFoundError:
        return None
    return decoded(data, Held, f"{run.location}/{LEASE}", "make sure that no driver uses the run, then remove it")


class Lease:
    """A claim on a run. Another driver's claim ends after `stale_after_s` without a heartbeat, or when its process on
    this machine ends."""

    def __init__(
        self,
        run: RunDir,
        owner: str | None = None,
        stale_after_s: float = STALE_AFTER_S,
        clock: Callable[[], float] = time.time,
    ):
        self.run = run
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self.stale_after_s = stale_after_s
        self._clock = clock
        self.claim = Claim(run, uuid.uuid4().hex)

    def acquire(self) -> bool:
        """Claim the run; returns whether a former owner did not release it. Raises RunDirError with owner, age and
        remedy if another claim is active."""
        held = read_lease(self.run)
        others = held is not None and held["token"] != self.claim.token
        if held is not None and others and not is_over(held, self._clock(), self.stale_after_s):
            age = self._clock() - held["heartbeat_at"]
            wait = f"wait: without a heartbeat for {self.stale_after_s:.0f} s the claim ends."
            if age < -1:
                wait = f"if it is not running any more, whatever its clock says, remove {self.run.path(LEASE)}."
            raise RunDirError(
                f"{self.run.location} is in use by {held['owner']} (heartbeat {age:.0f} s ago). Stop that run, choose "
                f"another run_dir, or {wait}"
            )
        self._write()
        try:
            self.claim.check()
        except LeaseLost as error:  # two that began in the same moment
            raise RunDirError(str(error)) from None
        return others

    def renew(self) -> None:
        """Write a heartbeat. Raises LeaseLost if the lease was lost meanwhile; the run must stop then."""
        self.claim.check()
        self._write()

    def release(self) -> None:
        """Release the run. Does nothing if another driver owns it now."""
        held = read_lease(self.run)
        if held is not None and held["token"] == self.claim.token:
            self.run.delete(LEASE)

    def _write(self) -> None:
        record = {
            "owner": self.owner,
            "token": self.claim.token,
            "heartbeat_at": self._clock(),
            "machine": _machine(),
            "pid": os.getpid(),
        }
        self.run.write_bytes(LEASE, json.dumps(record).encode())


def is_over(held: Held, now: float, stale_after_s: float = STALE_AFTER_S) -> bool:
    """Whether a claim that was not released has ended: there was no heartbeat for too long or, on the holder's own
    machine, its process is gone. `now`: Unix time, s."""
    if now - held["heartbeat_at"] > stale_after_s:
        return True
    return held["machine"] is not None and held["machine"] == _machine() and not _is_alive(held["pid"])


def _machine() -> str | None:
    """An id of the scope in which a process id is unique: this boot of this machine, this namespace. None if
    unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and another user's
    return True
