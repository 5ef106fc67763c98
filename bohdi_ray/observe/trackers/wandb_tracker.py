"""Weights & Biases: one run for all drivers of a fusion; offline it is written to RUN/wandb, for `wandb sync` later.

What the client would gather by itself stays off: source code, git state, packages, the machine's name and load, the
console. The server's address and the key are the client's own affair (WANDB_BASE_URL, WANDB_API_KEY, `wandb login`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bohdi_ray.observe.trackers.files import TrackerFiles, keep_id, known_id
from bohdi_ray.observe.trackers.opening import Target

FOLDER = "wandb"  # the client's own name for it
INIT_TIMEOUT_S = 20.0


class WandbTracker:
    """A `Tracker`. Scalars of a kind have an axis of their own, `<kind>/step`, since steps of kinds do not compare."""

    def __init__(self, target: Target):
        import wandb

        self._files = TrackerFiles(target.run, FOLDER)
        known = known_id(target.run, FOLDER)
        run_id = known or uuid.uuid4().hex
        quiet: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "disable_code": True,
            "disable_git": True,
            "disable_job_creation": True,
            "init_timeout": INIT_TIMEOUT_S,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
        }
        self._run = wandb.init(
            project=target.project,
            id=run_id,
            name=target.name,
            config=target.config,
            dir=str(self._files.folder.parent),
            mode="offline" if target.offline else None,  # None: what WANDB_MODE says, else online
            resume=None if target.offline or known is None else "allow",
            settings=wandb.Settings(**quiet),
        )
        # The client waits for its process when Python ends, however long that takes to reach the server; what is asked
        # for last is done first.
        atexit.register(_end_service)
        keep_id(target.run, FOLDER, run_id)
        self._kinds: set[str] = set()

    def add(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        kind = next(iter(values)).partition("/")[0]
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        self._run.log({**values, f"{kind}/step": step})

    def flush(self) -> None:
        self._files.copy()

    def close(self) -> None:
        import wandb

        try:
            self._run.finish()
            wandb.teardown()  # `finish` alone may come back before the file is whole: its process ends here
            atexit.unregister(_end_service)
        finally:
            self._files.close()


def _end_service() -> None:
    """Ends the client's process, a child of this one, if it is still there: it has had its time. What it had not sent
    is in RUN/wandb, for `wandb sync`. Takes along the folder of its socket, which it cannot remove itself any more."""
    for child in psutil.Process().children():
        if child.name().startswith("wandb-"):
            child.kill()
    for folder in Path(tempfile.gettempdir()).glob(f"wandb-{os.getpid()}-*"):
        shutil.rmtree(folder, ignore_errors=True)
