"""Processes of a test session that are forked from one process, which has imported what all of them import.

Most of what a small fusion takes on two cores is processes that start: importing Ray and the package is one and a half
seconds of CPU, importing vLLM twelve, and each engine of vLLM's imports it in two processes. Here a worker of Ray and a
process that multiprocessing spawns is a fork of a process that has done so; everything from the connection to the
raylet, or from the pickled target on, is Ray's (`default_worker.py`) and multiprocessing's own (`spawn_main`). For
tests of what runs in the processes, not of how they start: submitted jobs, clusters of several nodes and runs that a
command starts have processes as users have them.
"""

from __future__ import annotations

import array
import fcntl
import json
import multiprocessing.spawn
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

WORKER, SPAWNED = "default_worker.py", "--multiprocessing-fork"
CLIENT = "python"  # the program's name in the folder
EARLY = "--start-early"  # the one argument of a client that wants nothing yet
OWNER = "FORKED_WORKERS_OWNER"  # the process whose end ends the forks that no raylet asked for
STARTS_S = 120.0
SCRIPTED = (
    "ray.train",
    "scripted_parts",
    "bohdi_ray.fusion",
    "bohdi_ray.actors.tree_manager",
    "bohdi_ray.actors.harvest_task",
    "bohdi_ray.actors.rehearsal_task",
)
# What engines of vLLM's and DeepSpeed's ranks import, too.
REAL = (
    "ray.train.torch",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.llama",
    "deepspeed",
    "transformers.models.llama.modeling_llama",
    "bohdi_ray.fusion",
    "bohdi_ray.actors.engine_actor",
    "bohdi_ray.actors.harvest_task",
    "bohdi_ray.actors.tree_manager",
    "bohdi_ray.training.learner",
)
# Read as modules are imported, before a fork has its own environment.
READ_AT_IMPORT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
# Without `site`, which takes as long as all the rest.
PYTHON = """#!{python} -ISE
import sys
sys.path.append({tests!r})
from forked_workers import python
python({python!r}, {folder!r}, {imported!r})
"""


def forking_python(folder: Path, imported: tuple[str, ...] = SCRIPTED) -> str:
    """A program to be started in the place of Python, see `python` below."""
    os.environ[OWNER] = str(os.getpid())
    client = folder / CLIENT
    tests = os.path.dirname(__file__)
    client.write_text(PYTHON.format(python=sys.executable, tests=tests, folder=str(folder), imported=imported))
    client.chmod(0o755)
    return str(client)


@contextmanager
def forked_workers(client: str) -> Iterator[None]:
    """A Ray that is started in the block has such workers."""
    before, sys.executable = sys.executable, client
    try:
        yield
    finally:
        sys.executable = before


@contextmanager
def forked_children(client: str) -> Iterator[None]:
    """What multiprocessing spawns in the block is forked, too."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(client)
    try:
        yield
    finally:
        multiprocessing.set_executable(before)


def python(executable: str, folder: str, imported: tuple[str, ...]) -> NoReturn:
    """One of Ray's workers, or what multiprocessing spawns, is forked; any other program is Python's."""
    argv, files = sys.argv[1:], [0, 1, 2]
    if argv[-1:] == [SPAWNED]:
        files += _passed()
    elif argv != [EARLY] and (not argv or os.path.basename(argv[0]) != WORKER):
        os.execv(executable, [executable, *argv])
    # Ray's library reads these once, when it is imported.
    address = os.path.join(folder, "-".join(os.environ.get(name, "") for name in ("RAY_RAYLET_PID", "RAY_JOB_ID")))
    with open(f"{address}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(address):
            _start_server(executable, address, imported)
    if argv == [EARLY]:
        os._exit(0)
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    said = json.dumps([argv, files, dict(os.environ), os.getcwd()]).encode()
    sent = array.array("i", files).tobytes()
    server.sendmsg([len(said).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
    server.sendall(said)
    for file in files[3:]:
        os.close(file)  # the other end waits for the last one to be closed
    code = server.recv(8)
    os._exit(int(code) if code else 1)


def _passed() -> list[int]:
    """Open files that this process was started with; its own it would not hand on."""
    passed = []
    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the one of the list
            passed += [number] if number > 2 and os.get_inheritable(number) else []
    return passed


def _start_server(executable: str, address: str, imported: tuple[str, ...]) -> None:
    import subprocess

    with open(f"{address}.log", "w") as log:
        server = subprocess.Popen(
            [executable, __file__, address, *imported],
            env={**os.environ, **READ_AT_IMPORT},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server.wait()  # it has gone on in a process of its own: whoever ends all that it has started leaves that one alone
    deadline = time.monotonic() + STARTS_S
    while not os.path.exists(address):
        if os.path.exists(f"{address}.failed") or time.monotonic() > deadline:
            sys.exit(f"the process to fork workers from does not start: {address}.log")
        time.sleep(0.02)


def serve(address: str, imported: list[str]) -> None:
    """Forks processes until the raylet that asks for them, or else the owner, has ended."""
    import gc
    import importlib
    import select
    import signal

    import ray.actor

    # Ray's generator of ids has no state before its first one: forks that inherit a state all make the same ids.
    ids, ray.actor.ActorClassID = ray.actor.ActorClassID, _ActorClassIds
    for name in imported:
        importlib.import_module(name)
    ray.actor.ActorClassID = ids
    gc.collect()
    gc.freeze()  # the forks share these pages for as long as nobody writes to them
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    client = os.path.join(os.path.dirname(address), CLIENT)
    owner = os.pidfd_open(int(os.environ.get("RAY_RAYLET_PID") or os.environ[OWNER]))
    running: dict[int, tuple[int, socket.socket]] = {}  # of the file that says that a worker has ended
    while True:
        clients = {connection.fileno(): pid for pid, connection in running.values()}
        ready, _, _ = select.select([owner, listening.fileno(), *running, *clients], [], [])
        if owner in ready:
            return
        for file in ready:
            if file == listening.fileno():
                connection, _ = listening.accept()
                worker = _forked(connection, [owner, listening.fileno(), *running, *clients], client)
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


def _forked(connection: socket.socket, not_its_own: list[int], client: str) -> int:
    """The new process's pid; in the process itself it never returns."""
    length, files, _, _ = socket.recv_fds(connection, 8, 250)
    argv, numbers, environment, cwd = json.loads(connection.makefile("rb").read(int.from_bytes(length, "big")))
    if pid := os.fork():
        for file in files:
            os.close(file)
        return pid
    os.setpgid(0, 0)  # the raylet ends a worker with all of its process group
    held = [fcntl.fcntl(file, fcntl.F_DUPFD, 1000) for file in files]
    for file in [*not_its_own, *files, connection.fileno()]:
        os.close(file)
    for file, number in zip(held, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    multiprocessing.set_executable(client)  # for what this one spawns
    if argv[-1:] == [SPAWNED]:
        return _end_with(lambda: _spawned(argv[-2]))
    sys.argv = argv
    return _end_with(lambda: runpy.run_path(argv[0], run_name="__main__"))


def _spawned(program: str) -> None:
    """What multiprocessing's command line says: `from multiprocessing.spawn import spawn_main; spawn_main(...)`."""
    if "vllm.logger" in sys.modules:  # it has read another environment
        sys.modules["vllm.logger"]._configure_vllm_root_logger()
    sys.modules.pop("bohdi_ray.engines.vllm.orphan_guard", None)  # its import is what counts
    sys.argv = ["-c", SPAWNED]
    exec(program, {"__name__": "__main__"})


def _end_with(work: Callable[[], Any]) -> NoReturn:
    import traceback

    code = 1
    try:
        work()
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
    if os.fork():
        os._exit(0)
    try:
        serve(sys.argv[1], sys.argv[2:])
    except BaseException:
        Path(f"{sys.argv[1]}.failed").touch()
        raise
