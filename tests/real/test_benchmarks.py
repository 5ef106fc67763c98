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
# Seconds for the parts of `make test-long`; a new program is found by itself.
SECONDS = {
    "miniature": 400,
    "chaos": 270,
    "judges": 230,
    "harvest": 200,
    "train": 130,
    "elastic": 110,
    "overlap": 90,
    "weights": 70,
    "soak": 45,
    "control_plane": 30,
}
PROGRAMS = [path.stem for path in sorted(BENCH.glob("*.py")) if "\ndef main()" in path.read_text("utf-8")]
LIMIT_S = 900


def series_do_not_grow(figures: dict) -> None:
    """Twice as many rounds give no more series that name a task or an actor, but for a few that come and go."""
    first, *_, last = (mark["task_series"] for mark in figures["marks"].values())
    assert 0 < last <= 1.3 * first


KEEPS = {"soak": series_do_not_grow}  # what else a smallest run must show


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
    if program in KEEPS:
        KEEPS[program](figures)


def test_every_benchmark_is_found():
    assert set(SECONDS) <= set(PROGRAMS) and len(PROGRAMS) >= 12
