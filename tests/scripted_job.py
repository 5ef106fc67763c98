"""The command line as a job's program, with scripted engines and a scripted trainer; everything else is real."""

from __future__ import annotations

import sys

from scripted_parts import scripted_parts

import bohdi_ray
from bohdi_ray import real_parts
from bohdi_ray.cli import main
from bohdi_ray.job_paths import is_packaged

if __name__ == "__main__":
    real_parts.real_parts = lambda: scripted_parts(answer_s=0.3, step_s=0.1)
    print(f"code from the package: {is_packaged(bohdi_ray.__file__)}")
    main(sys.argv[1:])
