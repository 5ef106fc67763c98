"""`bohdi submit`, `logs` and `stop` against a cluster with a token, from a machine that has ray[default] alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clean_env import clean_env
from scripted_parts import scripted_config
from token_cluster import TokenCluster, agent_ports, free_ports, raylet, token_cluster

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.placement.machines import knock
from bohdi_ray.run.run_dir import RunDir

pytestmark = pytest.mark.timeout(600)

TESTS = Path(__file__).parents[1]
ROUNDS = 2
MOMENT_S = 240
SMALL = {"resources": {"num_cpus": 0.1}}  # two runs at once on four slots


@dataclass(frozen=True)
class Client:
    """A machine of its own: its folder, and the environment that it talks to the cluster with."""

    folder: Path
    cluster: TokenCluster

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(TESTS / "light_client.py"), *arguments]
        env = {name: value for name, value in self.cluster.client_env(**environment).items() if value}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True, **pipes)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit code and everything shown."""
        arguments = (*arguments, "--address", self.cluster.address)
        process = self.start(*arguments, **environment)
        try:
            shown, _ = process.communicate(timeout=MOMENT_S)
        finally:
            process.kill()
        return process.returncode, shown

    def runs(self) -> Path:
        return self.folder.parent / "home" / "runs"

    def jobs_answer_after(self, seconds: float) -> None:
        """Those that begin from now on."""
        (self.folder.parent / "home" / "answer_s").write_text(str(seconds))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submit")
    mine, home = folder / "mine", folder / "home"
    for path in (mine, home, mine / "prompts"):
        path.mkdir()
    (mine / "seeds.yaml").write_text("Science: [Physics]\nArts: [Music]\n")
    (mine / "prompts" / "question.jinja").write_text('Ask about {{ path | join(", ") }}: {{ style }}.')
    config = scripted_config(
        "runs/fused", meditation={"steps": 3, "walks_per_step": 6}, tree={"seed": "./seeds.yaml", "depth": 2},
        sources=[{"kind": "vllm", "name": name, "model": "./none", **SMALL} for name in ("ada", "bob")],
        target={"name": "target", "model": "./none", **SMALL},
        harvest={"prompts": "./prompts", "tickets_per_task": 3, "max_tasks_in_flight": 2, "max_staleness": 1},
        deadlines={"drain_s": 5}, stop={"rounds": ROUNDS},
    )  # fmt: skip
    settings = config.model_dump(mode="json", exclude_unset=True)
    for model in (*settings["sources"], settings["target"]):
        model["model"] = "/none"
    (mine / "fusion.yaml").write_text(yaml.safe_dump(settings))
    with token_cluster(folder, PYTHONPATH=str(TESTS), BOHDI_HOME=str(home)) as cluster:
        client = Client(mine, cluster)
        client.jobs_answer_after(0)
        yield client


def wait_for(client: Client, pattern: str, job: str) -> None:
    """Until a file of the runs is there; what the job has said if it does not come."""
    deadline = time.monotonic() + MOMENT_S
    while not any(client.runs().glob(pattern)):
        if time.monotonic() > deadline:
            pytest.fail(f"no {pattern}: {client.run('logs', job)}")
        time.sleep(0.05)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def samples(folder: Path) -> dict[str, str]:
    return {sample.sample_id: sample.question for sample in SampleStore(RunDir.open(folder)).iter_samples()}


def test_a_job_is_followed_stopped_and_resumed_and_ends_as_an_undisturbed_one(client):
    client.jobs_answer_after(1)  # it is to be at work still when it is stopped
    follower = client.start("submit", "fusion.yaml", "--submission-id", "first", "--address", client.cluster.address)
    wait_for(client, "fused/tree/segment-*1", "first")
    follower.send_signal(signal.SIGINT)
    shown, _ = follower.communicate(timeout=60)
    assert follower.returncode == 130 and "the job continues" in shown and "bohdi logs first --follow" in shown, shown
    code, shown = client.run("submit", "--resume", "first")
    assert code == 2 and "the job is running" in shown, shown

    follower = client.start("logs", "first", "--follow", "--address", client.cluster.address)
    code, shown = client.run("stop", "first")
    assert code == 0 and "was stopped" in shown and "asked to stop" in shown, shown
    shown, _ = follower.communicate(timeout=60)
    assert follower.returncode == 130, shown
    assert "code from the package: True" in shown and "stopping: work in progress may finish" in shown, shown
    assert "All samples committed so far are kept" in shown, "it was killed instead of drained"
    run = client.runs() / "fused"
    before = samples(run)
    assert before and not (run / "lease.json").exists() and not (run / "summary.json").exists()

    client.jobs_answer_after(0)
    code, shown = client.run("submit", "fusion.yaml", "run_dir=runs/whole", "--submission-id", "whole", "--no-wait")
    assert code == 0 and "to upload: " in shown and "bohdi stop whole" in shown, shown
    code, shown = client.run("submit", "--resume", "first", "--submission-id", "second")
    assert code == 0 and "resuming" in shown and "job second has succeeded" in shown, shown
    whole = client.runs() / "whole"
    wait_for(client, "whole/summary.json", "whole")
    assert summary(run)["tree_digest"] == summary(whole)["tree_digest"]
    assert samples(run) == samples(whole) and before.items() <= samples(run).items()
    assert len(summary(run)["rounds"]) == ROUNDS
    assert (run / "inputs" / "prompts" / "question.jinja").exists()
    assert yaml.safe_load((run / "config.yaml").read_text())["tree"]["seed"] == str(run / "inputs" / "seed.yaml")
    assert not any("runs" in path.name for path in client.folder.iterdir()), "nothing of a run lies here"


def test_a_failing_job_gives_its_exit_code(client):
    (client.runs() / "taken").mkdir(parents=True)
    (client.runs() / "taken" / "config.yaml").write_text("")
    code, shown = client.run("submit", "fusion.yaml", "run_dir=runs/taken")
    assert code == 2 and "it already holds a run" in shown and "failed with exit code 2" in shown, shown


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": ""}, "RAY_AUTH_MODE = None: the cluster requires a token"),
        ({"RAY_AUTH_TOKEN": "ab" * 32}, "RAY_AUTH_TOKEN = '(not shown)': the cluster has another token"),
        (
            {"RAY_AUTH_TOKEN": "", "HOME": "/none"},
            "RAY_AUTH_TOKEN = None: RAY_AUTH_MODE is token, and no",
        ),
        (
            {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "/none"},
            "RAY_AUTH_TOKEN_PATH = '/none': RAY_AUTH_MODE is token, and the file cannot be read",
        ),
    ],
)
def test_a_missing_or_wrong_token_is_refused_with_what_to_mend(client, environment, says):
    code, shown = client.run("logs", "first", **environment)
    assert code == 2 and says in shown and "abab" not in shown and "Traceback" not in shown, shown


@pytest.mark.parametrize(
    ("command", "environment", "says"),
    [
        ("fuse", {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": ""}, "RAY_AUTH_MODE = None: the cluster requires a token"),
        ("plan", {"RAY_AUTH_TOKEN": "ab" * 32}, "RAY_AUTH_TOKEN = '(not shown)': the cluster has another token"),
        ("fuse", {"RAY_AUTH_TOKEN": "", "HOME": "/none"}, "RAY_AUTH_TOKEN = None: RAY_AUTH_MODE is token, and no"),
    ],
)
def test_who_joins_a_cluster_is_told_the_same_of_a_token_and_nothing_else(client, tmp_path, command, environment, says):
    (tmp_path / "answer_s").write_text("0")
    paths = {"BOHDI_HOME": str(tmp_path), "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    env = {name: value for name, value in client.cluster.client_env(**paths, **environment).items() if value}
    program = [sys.executable, str(TESTS / "scripted_job.py"), command, str(client.folder / "fusion.yaml")]
    arguments = [f"run_dir={tmp_path / 'run'}", "--address", client.cluster.gcs]
    done = subprocess.run(
        [*program, *arguments], cwd=client.folder, env=env, capture_output=True, text=True, timeout=MOMENT_S
    )
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert done.stderr.startswith("refused: ") and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_the_address_that_is_given_wins_and_unknown_jobs_are_refused(client, tmp_path):
    token = tmp_path / "token"
    token.write_text(client.cluster.token)
    environment = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": "http://127.0.0.1:9"}
    code, shown = client.run("stop", "nobody", **environment)
    assert code == 2 and "ID = 'nobody'" in shown and "knows no such job" in shown, shown


def test_nothing_answers_or_too_much_is_asked(client):
    process = client.start("logs", "first", "--address", "http://127.0.0.1:9")
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "--address = 'http://127.0.0.1:9': cannot be reached" in shown, shown
    code, shown = client.run("submit", "fusion.yaml", "target.model=./weights", "sources.ada.engine.extra.hf_token=abc")
    assert code == 2 and "weights are not uploaded" in shown and "target.model" in shown, shown
    assert "sources.0.engine.extra.hf_token = '(not shown)'" in shown and "abc" not in shown, shown


def wait_for_head(address: str) -> None:
    deadline = time.monotonic() + MOMENT_S
    while True:
        try:
            return knock(address)
        except ConnectionError:
            assert time.monotonic() < deadline, "the head does not answer"
            time.sleep(0.2)


@pytest.mark.long(40)
def test_a_driver_in_another_mode_than_its_cluster_is_told_so(client, tmp_path):
    """The head cannot call it back. The other way round Ray refuses the connection."""
    gcs, *ports = free_ports(4)
    head = ["--head", f"--port={gcs}", f"--ray-client-server-port={ports[0]}", "--include-dashboard=false"]
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        raylet(
            [*head, f"--temp-dir={temporary}", *agent_ports(ports[1:]), "--num-cpus=4"],
            clean_env(RAY_AUTH_MODE="disabled"),
            tmp_path / "head.log",
        ),
    ):
        wait_for_head(f"127.0.0.1:{gcs}")
        program = [sys.executable, str(TESTS / "scripted_job.py"), "fuse", str(client.folder / "fusion.yaml")]
        (tmp_path / "answer_s").write_text("0")
        env = client.cluster.client_env(BOHDI_HOME=str(tmp_path), PYTHONPATH=str(TESTS))
        done = subprocess.run(
            [*program, f"run_dir={tmp_path / 'run'}", "--address", f"127.0.0.1:{gcs}"],
            cwd=client.folder, env=env, capture_output=True, text=True, timeout=MOMENT_S,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "RAY_AUTH_MODE = 'token': the cluster was started without a token" in done.stderr
    assert not (tmp_path / "run").exists()
