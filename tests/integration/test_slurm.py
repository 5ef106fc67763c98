"""cluster/slurm/bohdi.sbatch with a `srun` and a `scontrol` that do on this machine what Slurm's would do on nodes.

Ray is real: a head and a worker, tokens on. The fusion is a script that says what it got and waits to be stopped.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
SRUN = """#!/bin/bash
while [[ ${1-} == --* ]]; do shift; done
export SLURM_CPUS_ON_NODE=1
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then tr , '\\n' <<<"$3"; else echo "$@" >"$FACTS/scontrol"; fi
"""
# In the place of `python cluster/fuse_or_resume.py CONFIG RUN`.
JOB = """#!/bin/bash
printf '%s\\n' "$PWD" "$@" >"$FACTS/arguments"
until ray status | grep -q "/2.0 CPU"; do sleep 1; done  # the head's and the other node's
trap 'sleep 4; echo drained >"$FACTS/drained"; exit 130' TERM
touch "$FACTS/begun"
while true; do sleep 0.2; done
"""


@pytest.fixture
def slurm(tmp_path):
    """An environment in which the script finds those commands, and a folder where they leave what happened."""
    commands, venv, facts = tmp_path / "commands", tmp_path / "venv/bin", tmp_path / "facts"
    for folder in (commands, venv, facts):
        folder.mkdir(parents=True)
    for path, text in ((commands / "srun", SRUN), (commands / "scontrol", SCONTROL), (venv / "python", JOB)):
        path.write_text(text)
        path.chmod(0o755)
    for name in ("ray", "bohdi"):
        (venv / name).symlink_to(Path(sys.executable).parent / name)
    number = os.getpid() * 10 + int(time.time()) % 10
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(tmp_path),  # so that the token is made anew, and stays here
        "FACTS": str(facts),
        "BOHDI_VENV": str(venv.parent),
        "BOHDI_HEAD_IP": "127.0.0.1",
        "BOHDI_DRAIN_S": "30",
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    return environment


def submitted(environment, *arguments):
    command = ["bash", str(ROOT / "cluster/slurm/bohdi.sbatch"), *arguments]
    log = open(Path(environment["FACTS"]) / "log", "w")  # noqa: SIM115 - the process owns it
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def ended(process, environment, timeout_s=90):
    """The exit code; fails if Ray is still there."""
    facts = Path(environment["FACTS"])
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(60)
        pytest.fail((facts / "log").read_text())
    scratch = f"/tmp/ray-{environment['SLURM_JOB_ID']}"
    left = [p for p in psutil.process_iter(["cmdline"]) if any(scratch in word for word in p.info["cmdline"] or [])]
    assert left == [] and not Path(scratch).exists()
    return code


@pytest.mark.long(45)
def test_the_signal_ahead_of_the_time_limit_drains_and_queues_again(slurm):
    facts = Path(slurm["FACTS"])
    process = submitted(slurm, "some config.yaml", "s3://bucket/run", "stop.rounds=2")
    deadline = time.monotonic() + 150
    while not (facts / "begun").exists():
        assert process.poll() is None and time.monotonic() < deadline, (facts / "log").read_text()
        time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    assert ended(process, slurm) == 0
    assert "was stopped" in (facts / "log").read_text()
    assert (facts / "drained").exists()  # it had the time it needs after SIGTERM, more than Ray gives by default
    assert (facts / "scontrol").read_text().split() == ["requeue", slurm["SLURM_JOB_ID"]]
    assert (facts / "arguments").read_text().splitlines() == [
        str(ROOT),
        "cluster/fuse_or_resume.py",
        "some config.yaml",
        "s3://bucket/run",
        "stop.rounds=2",
    ]
    token = Path(slurm["HOME"]) / ".ray/auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text().strip() not in (facts / "log").read_text()
