"""The command line as a job's program, with scripted engines and a scripted trainer; everything else is real.

An answer takes as long as the file `answer_s` in $BOHDI_HOME says when the job begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scripted_parts import scripted_parts

import bohdi_ray
from bohdi_ray.cli import main
from bohdi_ray.config.job_paths import is_packaged
from bohdi_ray.driver import real_components

if __name__ == "__main__":
    answer_s = float((Path(os.environ["BOHDI_HOME"]) / "answer_s").read_text())
    real_components.real_parts = lambda: scripted_parts(answer_s=answer_s)
    print(f"code from the package: {is_packaged(bohdi_ray.__file__)}")
    main(sys.argv[1:])
