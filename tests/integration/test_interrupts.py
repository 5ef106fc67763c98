"""Ctrl-C on a whole fusion in a process of its own: what stands afterwards, how fast it ends, what it says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.manager import TreeManager

pytestmark = pytest.mark.timeout(150)

SCRIPT = """
import sys
from scripted_parts import scripted_config, scripted_parts
from bohdi_ray.cli.errors import errors_as_text
from bohdi_ray.fusion import fuse

meditation = {"steps": 3, "walks_per_step": 6}
config = scripted_config(sys.argv[1], meditation=meditation, stop={"rounds": 50}, harvest={"max_staleness": 1})
errors_as_text(fuse)(config, parts=scripted_parts(answer_s=float(sys.argv[2]), step_s=0.1))
"""


def started(folder: Path, answer_s: float) -> subprocess.Popen:
    (folder / "script.py").write_text(SCRIPT)
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    command = [sys.executable, str(folder / "script.py"), str(folder / "run"), str(answer_s)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(pattern: str, folder: Path, process: subprocess.Popen, text: bytes = b"") -> None:
    """Until there is such a file with `text` in it."""
    deadline = time.monotonic() + 90
    while not any(text in path.read_bytes() for path in folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"no {pattern} {text!r}"
        time.sleep(0.05)


def test_after_ctrl_c_committed_samples_and_journal_agree_and_the_message_says_where_they_are(tmp_path):
    process = started(tmp_path, answer_s=0.05)
    wait_for("run/tree/segment-*2", tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert f"stopped: the run was asked to stop. All samples committed so far are kept in {tmp_path}/run" in errors
    run = RunDir.open(tmp_path / "run")
    journal = [data for _, data in Segments(run).read_segments().segments]
    stats = TreeManager.replay(run.config(), None, journal).stats()
    samples = [sample.sample_id for sample in SampleStore(run).iter_samples()]
    assert 0 < stats["num_committed"] == len(samples) == len(set(samples)), stats
    assert not run.exists("lease.json")


@pytest.mark.long(30)
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    process = started(tmp_path, answer_s=30.0)
    wait_for("run/metrics.jsonl", tmp_path, process, b'"start_up"')
    time.sleep(3.0)  # into the first answers, which take longer than this test waits
    process.send_signal(signal.SIGINT)
    time.sleep(2.0)
    assert process.poll() is None, "the first one drains"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
