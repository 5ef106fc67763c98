"""What all real tests share, so that it is paid once: a Ray session, and what engines and train workers import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked_workers import EARLY, REAL, STARTS_S, forked_children, forked_workers, forking_python


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is started in the place of Python; see forked_workers.py."""
    return forking_python(Path(tmp_path_factory.mktemp("python")), REAL)


@pytest.fixture(scope="session", autouse=True)
def engines_of_this_process(client: str) -> Iterator[None]:
    """vLLM's processes of engines that a test starts itself are forked."""
    early = subprocess.Popen([client, EARLY])
    with forked_children(client):
        yield
    early.wait(STARTS_S)


@pytest.fixture
def spawned_engines() -> Iterator[None]:
    """vLLM's processes are children of this one, each with imports of its own, as a user has them."""
    with forked_children(sys.executable):
        yield


@pytest.fixture(scope="session")
def ray_session(client: str):
    """Ray on this machine with 8 logical CPU slots; workers can import what is in tests/."""
    import ray

    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # For workers as well; in a runtime environment each would import Ray twice.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [os.path.dirname(tests), tests, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    with forked_workers(client):
        ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
