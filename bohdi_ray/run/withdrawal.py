"""Removes a run that was refused after its directory was created and before it harvested anything.

Called by the driver when a start ends in a refusal: the remaining directory would block the next start of the same
configuration, and it contains nothing to continue from. Only files that a run writes are removed; everything else in
the folder stays.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from bohdi_ray.config.job_paths import INPUTS
from bohdi_ray.errors import ConfigError, ConfigErrors, RunDirError
from bohdi_ray.run.run_dir import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    EXAMPLES,
    METRICS,
    QUARANTINE,
    REPLAY,
    SAMPLES,
    SUMMARY,
    TARGET,
    TREE,
    RunDir,
)

# config.yaml last: until it is gone the folder counts as a run, so that a crash here leaves no half of one unseen.
FOLDERS = (CHECKPOINTS, TREE, SAMPLES, REPLAY, EXAMPLES, QUARANTINE, INPUTS, "tensorboard", "wandb", "mlflow")
FILES = re.compile(r"environment(-\d+)?\.json|progress\.json|lease\.json|\.writable|" + re.escape(METRICS))
TRIES, PAUSE_S = 5, 0.5  # a task of the run that was cut off may still write


@contextlib.contextmanager
def withdrawn_if_refused() -> Iterator[list[RunDir]]:
    """A list for the runs that are created in the block; if the start is refused, they are removed."""
    begun: list[RunDir] = []
    try:
        yield begun
    except (ConfigError, ConfigErrors):
        for run in begun:
            with contextlib.suppress(RunDirError, OSError):  # the refusal is what the user has to read
                withdraw(run)
        raise


def holds_nothing(run: RunDir) -> bool:
    """Whether nothing was harvested, trained or exported."""
    harvested = any(name.startswith("segment-") for name in run.names(TREE)) or bool(run.names(SAMPLES))
    return not harvested and not run.committed_rounds() and not any(run.exists(n) for n in (SUMMARY, TARGET, BEST))


def withdraw(run: RunDir) -> bool:
    """Removes the run if it holds nothing; returns whether it did."""
    if not run.exists(CONFIG) or not holds_nothing(run):
        return False
    for left in range(TRIES, 0, -1):
        try:
            for folder in FOLDERS:
                run.delete(folder)
            break
        except (OSError, RunDirError):
            if left == 1:
                return False
            time.sleep(PAUSE_S)
    for name in (*(name for name in run.names("") if FILES.fullmatch(name)), CONFIG):
        run.delete(name)
    if run.is_local:
        with contextlib.suppress(OSError):  # not ours alone
            Path(run.root).rmdir()
    return True
