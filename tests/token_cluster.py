"""A Ray cluster of its own as a user would start one: `ray start --head` with token authentication, and a second raylet
that joins it. Both end with it; other Rays on the machine are neither seen nor touched."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from clean_env import clean_env

BIN = Path(sys.executable).parent
UP_S = 60
PR_SET_PDEATHSIG = 1  # of prctl
ANY = ("--node-manager-port=0", "--object-manager-port=0", "--min-worker-port=0", "--max-worker-port=0")


@dataclass(frozen=True)
class TokenCluster:
    """Where it is, and what a client needs to talk to it."""

    address: str  # of the dashboard, which takes jobs
    gcs: str
    token: str

    def client_env(self, **changes: str) -> dict[str, str]:
        """The environment of a program that holds the token."""
        return clean_env(**{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, **changes})


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def token_cluster(log_folder: Path, **environment: str) -> Iterator[TokenCluster]:
    """Head and one more raylet; `environment` is what their processes find beside this one's."""
    with contextlib.ExitStack() as stack:
        # Short, for sockets are below it and their paths have room for a hundred characters. One for each: a raylet
        # unpacks a job's package below its folder, and removes what is there.
        folders = [
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)) for _ in "ab"
        ]
        gcs, dashboard, *others = free_ports(8)
        cluster = TokenCluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", secrets.token_hex(32))
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        env = cluster.client_env(PATH=path, **environment)
        head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", f"--temp-dir={folders[0]}"]
        head += [f"--ray-client-server-port={others[0]}", *agent_ports(others[1:3]), "--dashboard-host=127.0.0.1"]
        joined = [f"--address={cluster.gcs}", f"--temp-dir={folders[1]}", *agent_ports(others[3:5])]
        # Few slots: Ray starts a worker process for each of them at once, and jobs need others, with their own code.
        stack.enter_context(raylet([*head, "--num-cpus=2"], env, log_folder / "head.log"))
        wait_for_dashboard(cluster)
        stack.enter_context(raylet([*joined, "--num-cpus=2"], env, log_folder / "second.log"))
        yield cluster


def agent_ports(ports: list[int]) -> list[str]:
    return [f"--dashboard-agent-listen-port={ports[0]}", f"--metrics-export-port={ports[1]}"]


@contextlib.contextmanager
def raylet(options: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """`ray start`, with all processes that it started ended on the way out."""
    command = [str(BIN / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0", *ANY, *options]
    command += ["--object-store-memory=200000000", "--disable-usage-stats"]
    # Nobody waits for what ran there. More idle workers than slots stay, instead of being started again and again.
    env = {**env, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", "RAY_num_workers_soft_limit": "16"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=env, stdout=out, stderr=out, start_new_session=True, preexec_fn=end_with_parent
        )
    try:
        yield
    finally:
        own = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        psutil.wait_procs(own, timeout=10)
        for one in own:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(10)


def end_with_parent() -> None:
    """SIGTERM when the process that starts us is gone, so that a killed test leaves no cluster."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for_dashboard(cluster: TokenCluster) -> None:
    request = urllib.request.Request(f"{cluster.address}/api/jobs/")
    request.add_header("Authorization", f"Bearer {cluster.token}")
    deadline = time.monotonic() + UP_S
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.3)
