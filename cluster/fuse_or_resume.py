"""Begin a run, or continue with it where its directory holds one: what a job does that a cluster may start again.

Usage: python cluster/fuse_or_resume.py CONFIG RUN [KEY=VALUE]...

RUN takes the place of the configuration's `run_dir`: a path on a disk that every node sees, or an s3:// address. A
driver that was killed leaves its lease behind, which ends without a heartbeat; this waits for that. Exit codes are
those of `bohdi fuse`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import click

from bohdi_ray.cli import main
from bohdi_ray.run.lease import Lease, read_lease
from bohdi_ray.run.run_dir import CONFIG, RunDir

LOOK_S = 5.0


def wait_for_lease(run: RunDir, tell: Callable[[str], None] = click.echo) -> None:
    """Returns when nobody holds `run`, when the claim on it has ended, or when its holder proves alive: whoever comes
    next is then refused with the reason."""
    first, stale_after_s = read_lease(run), Lease(run).stale_after_s
    if first is None:
        return
    told = False
    while (held := read_lease(run)) == first and time.time() - first["heartbeat_at"] <= stale_after_s:
        if not told:
            tell(f"waiting for the claim of {held['owner']} on {run.location} to end, {stale_after_s:.0f} s at most")
        told = True
        time.sleep(LOOK_S)


def arguments(config: str, location: str, overrides: list[str]) -> list[str]:
    """The arguments of `bohdi` that begin the run at `location`, or continue with it."""
    run = RunDir(location)
    there = run.exists(CONFIG)
    if there:
        wait_for_lease(run)
    return ["fuse", config, f"run_dir={json.dumps(location)}", *overrides, *(["--resume"] if there else [])]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("usage: python cluster/fuse_or_resume.py CONFIG RUN [KEY=VALUE]...")
    main(arguments(sys.argv[1], sys.argv[2], sys.argv[3:]))
