"""Ray's worker processes of a test session, forked from one process that has imported what all of them import.

Most of what a scripted fusion takes on two cores is processes that start: each imports Ray and the package for one and
a half seconds of CPU. Here a worker is a fork of a process that has done so, and everything from the connection to the
raylet on is Ray's own (`default_worker.py`). For tests of what runs in the workers, not of how they start:
submitted jobs, clusters of several nodes and the real tests start workers as Ray does.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

WORKER = "default_worker.py"
STARTS_S = 60.0
IMPORTED = (
    "ray.train",
    "scripted_parts",
    "bohdi_ray.fusion",
    "bohdi_ray.actors.tree_manager",
    "bohdi_ray.actors.harvest_task",
    "bohdi_ray.actors.replay_task",
)
# Without `site`, which takes as long as all the rest.
PYTHON = """#!{python} -ISE
import sys
sys.path.append({tests!r})
from forked_workers import python
python({python!r}, {folder!r})
"""


@contextmanager
def forked_workers(folder: Path) -> Iterator[None]:
    """A Ray that is started in the block has such workers."""
    client = folder / "python"
    client.write_text(PYTHON.format(python=sys.executable, tests=os.path.dirname(__file__), folder=str(folder)))
    client.chmod(0o755)
    before, sys.executable = sys.executable, str(client)
    try:
        yield
    finally:
        sys.executable = before


def python(executable: str, folder: str) -> NoReturn:
    """What Ray starts in the place of Python: one of its workers is forked, any other program is Python's."""
    argv = sys.argv[1:]
    if not argv or os.path.basename(argv[0]) != WORKER:
        os.execv(executable, [executable, *argv])
    # Ray's library reads these once, when it is imported.
    address = os.path.join(folder, "-".join(os.environ.get(name, "") for name in ("RAY_RAYLET_PID", "RAY_JOB_ID")))
    with open(f"{address}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(address):
            _start_server(executable, address)
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    said = json.dumps([argv, dict(os.environ), os.getcwd()]).encode()
    files = array.array("i", [0, 1, 2]).tobytes()
    server.sendmsg([len(said).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    server.sendall(said)
    code = server.recv(8)
    os._exit(int(code) if code else 1)


def _start_server(executable: str, address: str) -> None:
    import subprocess

    with open(f"{address}.log", "w") as log:
        server = subprocess.Popen(
            [executable, __file__, address], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + STARTS_S
    while not os.path.exists(address):
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the process to fork workers from does not start: {address}.log")
        time.sleep(0.02)


def serve(address: str) -> None:
    """Forks workers until the raylet that asks for them has ended."""
    import gc
    import importlib
    import select
    import signal

    import ray.actor

    # Ray's generator of ids has no state before its first one: forks that inherit a state all make the same ids.
    ids, ray.actor.ActorClassID = ray.actor.ActorClassID, _ActorClassIds
    for name in IMPORTED:
        importlib.import_module(name)
    ray.actor.ActorClassID = ids
    gc.collect()
    gc.freeze()  # the forks share these pages for as long as nobody writes to them
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    running: dict[int, tuple[int, socket.socket]] = {}  # of the file that says that a worker has ended
    while True:
        clients = {connection.fileno(): pid for pid, connection in running.values()}
        ready, _, _ = select.select([raylet, listening.fileno(), *running, *clients], [], [])
        if raylet in ready:
            return
        for file in ready:
            if file == listening.fileno():
                connection, _ = listening.accept()
                worker = _forked(connection, [listening.fileno(), *running, *clients])
                running[os.pidfd_open(worker)] = worker, connection
            elif file in running:
                pid, connection = running.pop(file)
                del clients[connection.fileno()]
                with suppress(BrokenPipeError):
                    connection.sendall(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                connection.close()
                os.close(file)
            elif file in clients:
                os.kill(clients[file], signal.SIGKILL)  # whoever asked for the worker was killed


class _ActorClassIds:
    """For the actor classes that the imported modules define."""

    @staticmethod
    def from_random() -> Any:
        from ray import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))


def _forked(connection: socket.socket, not_its_own: list[int]) -> int:
    """The worker's pid; in the worker itself it never returns."""
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    argv, environment, cwd = json.loads(connection.makefile("rb").read(int.from_bytes(length, "big")))
    if pid := os.fork():
        for file in files:
            os.close(file)
        return pid
    os.setpgid(0, 0)  # the raylet ends a worker with all of its process group
    for own, theirs in enumerate(files):
        os.dup2(theirs, own)
    for file in [*not_its_own, *files, connection.fileno()]:
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    return _run(argv[0])


def _run(script: str) -> NoReturn:
    import runpy
    import traceback

    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
