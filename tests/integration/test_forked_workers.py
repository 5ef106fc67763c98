"""Processes that are forked (tests/forked_workers.py) are as different from each other as those that are started."""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import ray
from forked_workers import forked_children, forking_python

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]


def test_each_has_its_own_ids_and_random_numbers():
    @ray.remote(num_cpus=1)
    def facts() -> tuple[int, str, str, float]:
        """Process, its parent's command line, a random id as Ray makes them, and a random number."""
        from ray._raylet import ObjectRef

        time.sleep(2.0)  # for several processes to be at work together
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
        return os.getpid(), parent, ObjectRef.from_random().hex(), random.random()

    seen = ray.get([facts.remote() for _ in range(4)], timeout=60)
    pids, parents, ids, numbers = map(set, zip(*seen, strict=True))
    assert len(pids) > 1 and all("forked_workers.py" in parent for parent in parents)
    assert len(ids) == 4 and len(numbers) == 4


def tell(queue, name: str) -> None:
    """Process, its parent's command line, what its environment says, a random number."""
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
    queue.put((os.getpid(), parent, os.environ.get(name), random.random()))
    sys.exit(3)


def test_what_multiprocessing_spawns_is_forked_too_and_is_as_its_parent_made_it(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    with forked_children(forking_python(tmp_path, ("json",))):
        seen = []
        for value in ("one", "two"):
            monkeypatch.setenv("SET_LATE", value)
            queue = context.Queue()
            process = context.Process(target=tell, args=(queue, "SET_LATE"))
            process.start()
            seen.append(queue.get(timeout=60))
            process.join(60)
            assert process.exitcode == 3
        pids, parents, said, numbers = map(set, zip(*seen, strict=True))
        assert said == {"one", "two"} and len(pids) == len(numbers) == 2
        assert all("forked_workers.py" in parent for parent in parents)
        hanging = context.Process(target=time.sleep, args=(600,))
        hanging.start()
        hanging.kill()
        hanging.join(60)
        assert hanging.exitcode == -signal.SIGKILL
