"""Replaces `{time}` in `run_dir` with a name that no other start gets, not even one in the same second.

Called by every entry point that starts a run. The folder is created at once, so that two starts get different names; if
it stays empty, because the input was refused, it is removed again. An object store cannot reserve a name, so there the
name contains microseconds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import is_address

TIME = "{time}"


def unreserved_name(run_dir: str, now: datetime) -> str:
    """`run_dir` with the time to the microsecond: for locations where no name can be reserved."""
    exact = f"-{now.microsecond:06d}" if now.microsecond else ""
    return run_dir.replace(TIME, f"{now:%Y%m%d-%H%M%S}{exact}")


def with_run_dir(config: FusionConfig, now: datetime) -> FusionConfig:
    """Replaces `{time}` in `run_dir`, so that the name of the run is fixed from here on. Creates the folder."""
    if TIME not in config.run_dir:
        return config
    if is_address(config.run_dir):
        return config.model_copy(update={"run_dir": unreserved_name(config.run_dir, now)})
    for number in itertools.count(1):
        stamp = f"{now:%Y%m%d-%H%M%S}" + (f"-{number}" if number > 1 else "")
        if _is_ours(location := config.run_dir.replace(TIME, stamp)):
            break
    return config.model_copy(update={"run_dir": location})


@contextlib.contextmanager
def named_run(config: FusionConfig, now: datetime) -> Iterator[FusionConfig]:
    """The same while the block runs; at its end, folders that were created for the name and are still empty are
    removed."""
    if TIME not in config.run_dir or is_address(config.run_dir):
        yield with_run_dir(config, now)
        return
    there = next(folder for folder in Path(config.run_dir).parents if folder.exists())
    named = with_run_dir(config, now)
    try:
        yield named
    finally:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in itertools.takewhile(
                lambda f: f != there, (Path(named.run_dir), *Path(named.run_dir).parents)
            ):
                folder.rmdir()


def _is_ours(folder: str) -> bool:
    """Whether this process created the folder; also true where none can be created, which the preflight refuses."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
    except OSError:
        return True
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
