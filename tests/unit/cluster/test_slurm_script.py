"""The course of cluster/slurm/bohdi.sbatch, with commands that play Slurm and Ray; tests/integration has a real Ray."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from recipe_files import ROOT

COMMANDS = {
    "srun": """
        while [[ ${1-} == --* ]]; do echo "$1" >>"$FACTS/srun"; shift; done
        SLURM_CPUS_ON_NODE=7 exec "$@" """,
    "scontrol": """
        if [ "$1 $2" = "show hostnames" ]; then tr , '\\n' <<<"$3"; else echo "$@" >>"$FACTS/scontrol"; fi""",
    # Ray: a node is a process that waits; a job is the process of its entrypoint, which `job stop` ends as Ray does.
    "ray": """
        case "$1 $2" in
        "start --block")
            echo "$RAY_AUTH_MODE $*" >>"$FACTS/starts"
            if [ -e "$FACTS/broken" ]; then exit 1; fi
            trap 'echo ended >>"$FACTS/ends"; exit 0' TERM
            touch "$FACTS/head"
            while true; do sleep 0.05; done ;;
        "job list") test -e "$FACTS/head" ;;
        "job submit")
            # As Ray answers while its job agent is not up yet.
            if [ -e "$FACTS/agentless" ]; then rm "$FACTS/agentless"; exit 1; fi
            echo "$*" >"$FACTS/submit"
            while [ "$1" != -- ]; do shift; done; shift
            bash -c '"$@" & echo $! >"$FACTS/pid"; wait $!; echo $? >"$FACTS/code"' _ "$@" >/dev/null 2>&1 & ;;
        "job stop") echo "$*" >"$FACTS/stop"; kill "$(cat "$FACTS/pid")" ;;
        "get-auth-token --generate") touch "$FACTS/token" ;;
        esac""",
    "bohdi": """
        if [ "$1 $3" = "logs --follow" ]; then
            until [ -s "$FACTS/code" ]; do sleep 0.05; done
            exit "$(cat "$FACTS/code")"
        fi""",
    "python": """
        printf '%s\\n' "$PWD" "$@" >"$FACTS/arguments"
        case "$3" in
        *fails) exit 3 ;;
        *waits) trap 'sleep 0.3; touch "$FACTS/drained"; exit 130' TERM
            touch "$FACTS/begun"; while true; do sleep 0.05; done ;;
        esac""",
}


@pytest.fixture
def cluster(tmp_path):
    commands, facts, project = tmp_path / "venv/bin", tmp_path / "facts", tmp_path / "a project"
    for folder in (commands, facts, project):
        folder.mkdir(parents=True)
    for name, text in COMMANDS.items():
        (commands / name).write_text("#!/bin/bash\n" + text)
        (commands / name).chmod(0o755)
    return {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "FACTS": str(facts),
        "BOHDI_VENV": str(commands.parent),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "one,two,three",
        "SLURM_SUBMIT_DIR": str(project),
    }


def started(environment, *arguments):
    command = ["bash", str(ROOT / "cluster/slurm/bohdi.sbatch"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def when(process, path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)


def facts_of(environment):
    return Path(environment["FACTS"])


def test_a_fusion_that_ends_ends_the_job_and_every_node(cluster):
    (facts_of(cluster) / "agentless").touch()
    process = started(cluster, "my config.yaml", "/runs/ends", "a='b c'")
    output, _ = process.communicate(timeout=60)
    facts = facts_of(cluster)
    assert process.returncode == 0, output
    assert not (facts / "scontrol").exists() and not Path(f"/tmp/ray-{cluster['SLURM_JOB_ID']}").exists()
    # Words with blanks and quotes arrive as they were given, in the folder that it was submitted from.
    program = ["cluster/fuse_or_resume.py", "my config.yaml", "/runs/ends", "a='b c'"]
    assert (facts / "arguments").read_text().splitlines() == [cluster["SLURM_SUBMIT_DIR"], *program]
    head, workers = (facts / "starts").read_text().splitlines()
    assert "--head" in head and "--dashboard-host=127.0.0.1" in head and "--address=" in workers
    assert all(line.startswith("token start ") and "--num-cpus=7" in line for line in (head, workers))
    # A fixed port is one that another Ray on the node may hold.
    assert all("--dashboard-agent-listen-port=0" in line for line in (head, workers))
    assert "--labels=bohdi-group=trainer" in head and "--labels=bohdi-group=sources" in workers
    assert (facts / "ends").read_text().split() == ["ended", "ended"]
    options = (facts / "srun").read_text().split()
    assert "--nodelist=one" in options and {"--exclude=one", "--nodes=2", "--ntasks=2"} <= set(options)
    # The head's port is the one that the workers are told.
    assert head.split("--port=")[1].split()[0] == workers.split("--address=")[1].split(":")[1].split()[0]


def test_a_fusion_that_fails_fails_the_job_with_its_code(cluster):
    process = started(cluster, "c.yaml", "/runs/fails")
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert not (facts_of(cluster) / "scontrol").exists()


@pytest.mark.parametrize(
    ("number", "code", "slurm"), [(signal.SIGUSR1, 0, "requeue {SLURM_JOB_ID}"), (signal.SIGTERM, 130, None)]
)
def test_a_signal_drains_and_then_queues_again_or_ends(cluster, number, code, slurm):
    facts = facts_of(cluster)
    process = started(cluster, "c.yaml", "/runs/waits")
    when(process, facts / "begun")
    process.send_signal(number)
    process.send_signal(number)  # a second one changes nothing
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output  # a drain that was asked for is no failure
    assert (facts / "drained").exists()
    assert (facts / "ends").read_text().split() == ["ended", "ended"]
    asked = (facts / "scontrol").read_text().strip() if (facts / "scontrol").exists() else None
    assert asked == (slurm and slurm.format(**cluster))


def test_a_head_that_does_not_come_up_is_told(cluster):
    (facts_of(cluster) / "broken").touch()
    process = started(cluster, "c.yaml", "/runs/ends")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "did not come up on one" in output
    assert not (facts_of(cluster) / "submit").exists()


def test_without_a_run_it_says_how_it_is_used(cluster):
    process = started(cluster, "c.yaml")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and output.startswith("usage: sbatch")
