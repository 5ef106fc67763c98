"""A driver in a process of its own with a Ray of its own, as on a laptop, for tests that kill it.

It runs the fusion that `config(location)` of a test module describes, slowly enough to be caught at work."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clean_env import clean_env
from forked_workers import forked_workers, forking_python

TESTS = Path(__file__).parent
REACHED_S = 180.0  # Ray starts first, on a busy machine slowly


def killed_when(module: str, location: str, how: str, log: Path, reached: Callable[[], bool]) -> None:
    """Starts or resumes (`how`) such a run and kills its driver as soon as something is reached."""
    path = os.pathsep.join(map(str, (TESTS, TESTS.parent, TESTS / "integration")))
    command = [sys.executable, __file__, module, location, how]
    with log.open("a") as out, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        env = clean_env(PYTHONPATH=path)
        process = subprocess.Popen([*command, folder], env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            deadline = time.monotonic() + REACHED_S
            while not reached():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)


def main(module: str, location: str, how: str, folder: str) -> None:
    from scripted_parts import scripted_parts

    from bohdi_ray.fusion import fuse

    config = importlib.import_module(module).config(location)
    with forked_workers(forking_python(Path(folder))):
        fuse(config, resume=how == "resume", parts=scripted_parts(answer_s=0.03, step_s=0.1))


if __name__ == "__main__":
    main(*sys.argv[1:])
