"""Checks whether a new run can begin in a run directory, without touching it. Part of the preflight.

run/run_dir.py makes the final check by writing when the run begins; this check leaves nothing behind.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bohdi_ray.config.addresses import is_address
from bohdi_ray.config.job_paths import in_rays_session
from bohdi_ray.errors import ConfigError
from bohdi_ray.run.filesystem import SCHEMES
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.withdrawal import holds_nothing


def run_dir_errors(run_dir: str, resume: bool = False) -> list[ConfigError]:
    """Why a run cannot begin or continue there: an existing run, a file, missing permissions, an unknown kind of
    address.

    An object store is not contacted; run/run_dir.py does that when the run begins.
    """
    if is_address(run_dir):
        scheme, _, path = run_dir.partition("://")
        if scheme != "file":
            known = scheme in SCHEMES
            remedy = f"Use a path, or an address that begins with {', '.join(f'{s}://' for s in SCHEMES)}."
            return [] if known else [ConfigError("run_dir", run_dir, "no filesystem is known for it", remedy)]
        run_dir = path
    folder = Path(run_dir).expanduser().absolute()
    if in_rays_session(folder):
        rule = "it is in the folder of a Ray session, which Ray removes"
        remedy = "Give a path that all nodes keep; in a job a relative one is below $BOHDI_HOME or the home directory."
        return [ConfigError("run_dir", run_dir, rule, remedy)]
    if "{time}" in folder.name:
        folder = folder.parent
    elif (folder / "config.yaml").exists() and not resume:
        empty = " or, since nothing was harvested in it, remove it" if holds_nothing(RunDir(folder)) else ""
        remedy = f"Continue it (bohdi resume {run_dir}){empty}, or choose another run_dir; "
        remedy += "`{time}` gives a new one each time."
        return [ConfigError("run_dir", run_dir, "it already holds a run", remedy)]
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        rule = f"{folder} is a file, not a folder"
        return [ConfigError("run_dir", run_dir, rule, "Choose another run_dir.")]
    # The mode counts for root too, whom the system would let write.
    if not os.access(folder, os.W_OK | os.X_OK) or not folder.stat().st_mode & (
        stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    ):
        remedy = "Choose a folder you may write to, or correct its permissions."
        return [ConfigError("run_dir", run_dir, f"{folder} is read-only", remedy)]
    return []
