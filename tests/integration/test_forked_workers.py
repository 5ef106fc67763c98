"""Workers that are forked (tests/forked_workers.py) are as different from each other as those that Ray starts."""

import os
import time
from pathlib import Path

import pytest
import ray

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]


def test_each_has_its_own_ids_and_random_numbers():
    @ray.remote(num_cpus=1)
    def facts() -> tuple[int, str, str, float]:
        """Process, its parent's command line, a random id as Ray makes them, and a random number."""
        import random

        from ray._raylet import ObjectRef

        time.sleep(2.0)  # for several processes to be at work together
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
        return os.getpid(), parent, ObjectRef.from_random().hex(), random.random()

    seen = ray.get([facts.remote() for _ in range(4)], timeout=60)
    pids, parents, ids, numbers = map(set, zip(*seen, strict=True))
    assert len(pids) > 1 and all("forked_workers.py" in parent for parent in parents)
    assert len(ids) == 4 and len(numbers) == 4
