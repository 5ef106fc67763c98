"""Every program in jobs/bench still runs: its smallest run ends well, and its last line is one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clean_env import clean_env
from long_cases import long

INDEPENDENT = True  # each may be in another part of `make test-long`
BENCH = Path(__file__).parents[2] / "jobs" / "bench"
# Expected seconds on a quiet machine, for the parts of `make test-long`; a new program is found by itself.
SECONDS = {"harvest": 120, "judges": 150, "miniature": 240, "chaos": 120, "elastic": 90, "weights": 60, "train": 60}
PROGRAMS = [path.stem for path in sorted(BENCH.glob("*.py")) if "\ndef main()" in path.read_text("utf-8")]
LIMIT_S = 900


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("program", [long(SECONDS.get(name, 20), name) for name in PROGRAMS])
def test_the_smallest_run_of_a_benchmark_ends_with_one_json_object(program, quickstart_models, tmp_path):
    command = [sys.executable, str(BENCH / f"{program}.py"), "--smoke"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(figures, dict) and figures


def test_every_benchmark_is_found():
    assert set(SECONDS) <= set(PROGRAMS) and len(PROGRAMS) >= 12
