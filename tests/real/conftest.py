"""One Ray session for all real tests of a run, so that its start is paid once."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """Ray on this machine with 8 logical CPU slots; workers can import what stands in tests/."""
    import ray

    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # For workers as well; in a runtime environment each would import Ray twice.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [os.path.dirname(tests), tests, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
