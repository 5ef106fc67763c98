"""A folder of an engine's own for the sockets that vLLM's processes talk through.

vLLM puts them into the temporary folder under names of chance and leaves them there, also when an engine is stopped.
The folder is made where the engine's environment is set, and removed when the engine is stopped or its process ends. An
engine that is killed cannot do that: whoever starts the next engine on the machine does, and the driver at the end of
a Ray session of its own. A lock tells folders in use from those that are left. Imports nothing of vLLM.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

VARIABLE = "VLLM_RPC_BASE_PATH"  # vLLM's; inherited by the processes that it starts
PREFIX = "bohdi-ipc-"  # short: the path of a socket has room for a hundred characters
LOCK = "owner"

_held: list[IO[str]] = []  # locks, which last as long as the process


def make_ipc_folder() -> Path:
    """A new folder, below the one that VLLM_RPC_BASE_PATH names, and named by it from here on."""
    above = _above()
    clear_left_folders(above)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    lock = (folder / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    os.environ[VARIABLE] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_ipc_folder() -> None:
    """Removes this process's folder, if it has one. May be called again."""
    folder = Path(os.environ.get(VARIABLE, ""))
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def clear_left_folders(above: Path | None = None) -> None:
    """Removes the folders of engines that are gone; without `above` those in the usual place."""
    for lock in (above or _above()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), lock.open("r") as file:  # in use, or another user's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _above() -> Path:
    above = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
    return above.parent if above.name.startswith(PREFIX) else above  # of an engine that this process had before
