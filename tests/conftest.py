"""For all tests: model folders, real ones cached, tiny ones built once per session; a server that speaks S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from s3_server import set_credentials

set_credentials()  # before any test starts Ray


WHEN_ASKED_FOR = ("every_death", "long")
USUAL_S = 20.0  # what a long test takes that does not say it


def pytest_addoption(parser):
    parser.addoption("--shard", metavar="K/N", help="of the long tests, the K-th of N parts that take about as long")


def pytest_collection_modifyitems(config, items):
    """What has one of these markers runs when a marker expression is given, as in `make deaths` or `make test-long`."""
    if config.getoption("markexpr"):
        left_out = outside_shard(items, config.getoption("shard"))
    else:
        left_out = [item for item in items if any(map(item.get_closest_marker, WHEN_ASKED_FOR))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def outside_shard(items: list, shard: str | None) -> list:
    """The long tests of the other parts. A file's tests stay together, for they may share a fixture that takes minutes,
    unless it says that they are INDEPENDENT; files go to the part that has least to do so far, the longest first, by
    what their marker says: `long(seconds)`."""
    if shard is None:
        return []
    number, parts = map(int, shard.split("/"))
    seconds: dict[str, float] = {}
    for item in items:
        if marker := item.get_closest_marker("long"):
            group = _group(item)
            seconds[group] = seconds.get(group, 0.0) + (marker.args[0] if marker.args else USUAL_S)
    load, own = [0.0] * parts, set()
    for group in sorted(seconds, key=lambda group: (-seconds[group], group)):
        least = load.index(min(load))
        load[least] += seconds[group]
        if least == number:
            own.add(group)
    return [item for item in items if item.get_closest_marker("long") and _group(item) not in own]


def _group(item) -> str:
    return item.nodeid if getattr(item.module, "INDEPENDENT", False) else str(item.path)


def pytest_sessionfinish(session, exitstatus):
    """A part may have nothing for one of the folders."""
    if session.config.getoption("shard") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def quickstart_models():
    """The quickstart's two folders, prepared in the cache folder on first use."""
    from bohdi_ray.studies.quickstart import prepare_models

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What a test printed goes from one process to another as UTF-8; some print text that no encoding has."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
