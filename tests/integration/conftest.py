"""One Ray session for all integration tests."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from forked_workers import forked_workers, forking_python

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="session")
def ray_session():
    import ray

    # Workers unpickle actors and tasks that live in the tests folder.
    os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    if TESTS not in sys.path:
        sys.path.insert(0, TESTS)
    with tempfile.TemporaryDirectory() as folder:
        with forked_workers(forking_python(Path(folder))):
            ray.init("local", num_cpus=16, num_gpus=0, include_dashboard=False, log_to_driver=False)
        # It looks into the files of all workers, ever more of them; nobody reads what it says.
        ray._private.worker.global_worker.node.kill_log_monitor()
        yield
        ray.shutdown()
