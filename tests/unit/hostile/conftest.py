"""The scripted fusion of the tree's tests and the samples of the storage's drive real files here too."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bohdi_ray.records import Sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tree"))


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    path = Path(__file__).parents[1] / "storage" / "conftest.py"
    spec = importlib.util.spec_from_file_location("samples_of_storage_tests", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sample
