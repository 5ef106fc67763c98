"""Points in a run at which a test stops it or kills the process that came there. Files in a folder say what is wanted.

`RUN-points/<point>` (armed) holds what is to happen, once, to the process that reaches the point first:
`hold` writes `<point>.reached` with its process id and waits until `<point>.go` exists; `die` writes the same and ends
the process with SIGKILL. Without the file a point costs one look at the disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

HOLD, DIE = "hold", "die"
LONGEST_HOLD_S = 60.0


def folder_of(run_dir: str | os.PathLike[str]) -> Path:
    return Path(f"{run_dir}-points")


def arm(point: str, run_dir: str | os.PathLike[str], what: str) -> None:
    folder = folder_of(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / point).write_text(what)


def release(point: str, run_dir: str | os.PathLike[str]) -> None:
    (folder_of(run_dir) / f"{point}.go").touch()


def wait_until_reached(point: str, run_dir: str | os.PathLike[str], timeout_s: float) -> int:
    """The id of the process that came to the point. Raises TimeoutError."""
    path = folder_of(run_dir) / f"{point}.reached"
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came to {point} within {timeout_s} s")
        time.sleep(0.01)
    return int(path.read_text())


def reached(point: str, run_dir: str | os.PathLike[str]) -> None:
    """For processes that may block."""
    go = _announce(point, run_dir)
    deadline = time.monotonic() + LONGEST_HOLD_S
    while go is not None and not go.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def reached_async(point: str, run_dir: str | os.PathLike[str]) -> None:
    """For actors that answer other calls meanwhile."""
    go = _announce(point, run_dir)
    deadline = time.monotonic() + LONGEST_HOLD_S
    while go is not None and not go.exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


def _announce(point: str, run_dir: str | os.PathLike[str]) -> Path | None:
    """What to wait for; None to go on. Renaming makes one process the first."""
    folder = folder_of(run_dir)
    taken = folder / f"{point}.{os.getpid()}.taken"
    try:
        os.rename(folder / point, taken)
    except FileNotFoundError:
        return None
    what = taken.read_text()
    writing = folder / f"{point}.{os.getpid()}.writing"
    writing.write_text(str(os.getpid()))
    os.rename(writing, folder / f"{point}.reached")
    if what == DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    return folder / f"{point}.go"
