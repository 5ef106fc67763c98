"""`{time}` in `run_dir`: a name that no other start gets, also not one in the same second.

Called by whoever starts a run. A folder is made at once, which tells two starts apart; one that stays empty, because
the input was refused, is removed again. An object store reserves nothing, so there the name holds microseconds.
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
    """`run_dir` with the time in it, to the microsecond: where nothing can be reserved."""
    exact = f"-{now.microsecond:06d}" if now.microsecond else ""
    return run_dir.replace(TIME, f"{now:%Y%m%d-%H%M%S}{exact}")


def with_run_dir(config: FusionConfig, now: datetime) -> FusionConfig:
    """`{time}` in `run_dir` replaced, so that the run has one name from here on. Makes the folder."""
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
    """The same, while the block runs; folders made for the name that are still empty then are removed."""
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
    """Whether this process made the folder; also where none can be made, which the preflight refuses."""
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
