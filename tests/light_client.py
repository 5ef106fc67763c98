"""The command line on a machine that has ray[default] alone: `python light_client.py submit ...`.

All other packages that bohdi_ray needs are out of reach. The jobs that it submits run `scripted_job.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

NOT_THERE = {
    *("torch", "vllm", "deepspeed", "transformers", "accelerate", "safetensors", "openai", "tensorboard"),
    *("numpy", "pyarrow", "pandas", "scipy", "matplotlib", "msgspec", "fsspec", "rapidfuzz", "rich", "jinja2"),
}


class NotThere:
    """Finds these packages before anybody else does, and says that they are missing."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NOT_THERE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, NotThere())
    from bohdi_ray import cli
    from bohdi_ray.cli import jobs as cli_jobs

    cli_jobs.PROGRAM = f"exec python {Path(__file__).with_name('scripted_job.py')}"
    cli.main(sys.argv[1:], prog_name="bohdi")
