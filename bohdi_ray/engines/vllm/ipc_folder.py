"""A separate folder for the sockets through which vLLM's processes communicate.

vLLM puts them into the temporary folder under random names and leaves them there, even when an engine is stopped. The
folder is made where the engine's environment is set, and removed when the engine is stopped or its process ends. A
killed engine cannot do that, so the next engine that starts on the machine does, and so does a driver at the end of its
own Ray session. A lock distinguishes folders in use from abandoned ones. Imports nothing of vLLM.
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
    """Creates a new folder below VLLM_RPC_BASE_PATH and sets that variable to it."""
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
    """Removes the folders of engines that are gone; without `above` those in the default place."""
    for lock in (above or _above()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), lock.open("r") as file:  # in use, or another user's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _above() -> Path:
    above = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
    return above.parent if above.name.startswith(PREFIX) else above  # of an engine that this process had before
