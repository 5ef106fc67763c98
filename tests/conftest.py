"""For all tests: model folders, real ones cached, tiny ones built once per session; a server that speaks S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from s3_server import set_credentials

set_credentials()  # before any test starts Ray


WHEN_ASKED_FOR = ("every_death", "long")


def pytest_collection_modifyitems(config, items):
    """What has one of these markers runs when a marker expression is given, as in `make deaths` or `make test-long`."""
    if config.getoption("markexpr"):
        return
    left_out = [item for item in items if any(map(item.get_closest_marker, WHEN_ASKED_FOR))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def quickstart_models():
    """The quickstart's two folders, prepared in the cache folder on first use."""
    from bohdi_ray.quickstart import prepare_models

    return prepare_models()


@pytest.fixture(scope="session")
def smollm2_dir(quickstart_models) -> Path:
    """SmolLM2-135M-Instruct, bfloat16 (tied embeddings)."""
    return quickstart_models.source_dir


@pytest.fixture(scope="session")
def pruned_dir(quickstart_models) -> Path:
    """Its copy with 22 of 30 layers (tied embeddings)."""
    return quickstart_models.target_dir


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory) -> Callable[..., Path]:
    """`tiny_model_dir(arch, tie_word_embeddings=False, seed=0)`, arch one of tiny_models.FAMILIES; built once each."""
    built: dict[tuple[str, bool, int], Path] = {}

    def folder_of(arch: str, *, tie_word_embeddings: bool = False, seed: int = 0) -> Path:
        from tiny_models import build_tiny_model

        key = (arch, tie_word_embeddings, seed)
        if key not in built:
            folder = tmp_path_factory.mktemp(f"tiny-{arch}")
            built[key] = build_tiny_model(arch, folder, tie_word_embeddings=tie_word_embeddings, seed=seed)
        return built[key]

    return folder_of


@pytest.fixture(scope="session")
def s3_server():
    """Endpoint of a server on loopback that speaks S3."""
    from s3_server import running_server

    with running_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_address(s3_server) -> str:
    """Where a run may begin: a folder of a new bucket."""
    from s3_server import new_address

    return new_address(s3_server)
