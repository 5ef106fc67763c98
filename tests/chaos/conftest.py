"""One Ray session for all of these tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture(scope="session")
def address():
    """Of a Ray session of this process: drivers join it as they would join a cluster."""
    import ray
    from storm import start_ray

    if ray.is_initialized():  # what other folders' tests have left
        ray.shutdown()
    yield start_ray()
    ray.shutdown()


@pytest.fixture(scope="session")
def undisturbed(address, tmp_path_factory):
    """Folder and tree digest of the small run of `pointed_parts.py` when nothing dies."""
    import pointed_parts

    from bohdi_ray.fusion import fuse

    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    parts = pointed_parts.pointed_parts(str(folder), real_trainer=False)
    return folder, fuse(pointed_parts.pointed_config(str(folder)), parts=parts).tree_digest


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The tiny model that the real trainer trains."""
    import storm_run

    folder = tmp_path_factory.mktemp("tiny") / "model"
    storm_run.make_model(folder)
    return folder
