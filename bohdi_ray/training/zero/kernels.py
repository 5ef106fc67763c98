"""The C++ kernels of DeepSpeed that a node compiles when they are first wanted.

Torch guards a compilation with a file that it makes before and removes after. If a worker is killed in between, the
file stays, and every later worker on that node would wait for its removal forever. So kernels are compiled here, under
an operating-system lock, which a dead process cannot hold; the holder of the lock knows that an existing file is stale.
"""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path
from typing import Any

import torch

from bohdi_ray.config.addresses import default_cache_dir

# Only inference's all-reduce uses it, and it takes a minute or two to compile.
NOT_WANTED = "deepspeed_shm_comm"


def prepare_kernels(offload_optimizer: bool) -> None:
    """Called by every rank before torch.distributed and DeepSpeed are started: compiles the kernels that training needs
    or finds them in the cache folder, so that nothing is compiled later.

    Raises RuntimeError (torch's, with the compiler's message) when a kernel cannot be compiled.
    """
    import deepspeed  # not above: learner.py says first for which kind of machine

    deepspeed.ops.__compatible_ops__[NOT_WANTED] = False
    if offload_optimizer:
        load_kernel(deepspeed.ops.op_builder.CPUAdamBuilder())


def load_kernel(builder: Any) -> None:
    """Loads a kernel, `builder` being DeepSpeed's; one process of a node at a time compiles it."""
    folder = Path(os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(_default_folder()))) / builder.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "one_at_a_time").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "lock").unlink(missing_ok=True)  # torch's, left by a process that is dead
        builder.load()


def _default_folder() -> Path:
    """One folder for each version of torch and Python: torch's default is one folder for all, and two environments
    would recompile alternately."""
    return default_cache_dir() / "kernels" / f"torch-{torch.__version__}-py{platform.python_version()}"
