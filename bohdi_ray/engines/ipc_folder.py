"""A folder of an engine's own for the sockets that vLLM's processes talk through.

vLLM puts them into the temporary folder under names of chance, and leaves them there when it is killed, as engines are
at a run's end. Made where the engine's environment is set; removed when the engine is stopped or its process ends, and
by the orphan guard when its owner is gone. Imports nothing of vLLM.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "VLLM_RPC_BASE_PATH"  # vLLM's; inherited by the processes that it starts
PREFIX = "bohdi-ipc-"  # short: the path of a socket has room for a hundred characters


def make_ipc_folder() -> Path:
    """A new folder, below the one that VLLM_RPC_BASE_PATH names, and named by it from here on."""
    above = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
    if above.name.startswith(PREFIX):  # of an engine that this process had before
        above = above.parent
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    os.environ[VARIABLE] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_ipc_folder() -> None:
    """Removes this process's folder, if it has one. May be called again, and by any process of the engine."""
    folder = Path(os.environ.get(VARIABLE, ""))
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
