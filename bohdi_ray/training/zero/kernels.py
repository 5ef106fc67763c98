"""The C++ kernels of DeepSpeed that a node compiles when they are first wanted.

Torch guards a compilation with a file that it makes before and removes after. A worker killed in between leaves the
file there, and every later one on that node would wait for its removal without end. So what is compiled is compiled
here, under a lock of the operating system's, which a dead process cannot hold; whoever has the lock knows that a file
left there is nobody's.
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
    """To be called by every rank before torch.distributed and DeepSpeed are started: what the training needs is
    compiled or found in the cache folder, and nothing else will be compiled later.

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
    """One for each version of torch and Python: torch's own default is one for all, and two environments would
    compile anew in turn."""
    return default_cache_dir() / "kernels" / f"torch-{torch.__version__}-py{platform.python_version()}"
