"""A tracker's folder: in a local run itself, beside one on an object store with a copy there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from bohdi_ray.errors import RunDirError
from bohdi_ray.observe.trackers.files import TrackerFiles, keep_id, known_id
from bohdi_ray.run.run_dir import RunDir


@pytest.fixture
def far_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return RunDir(tmp_path / "run", pafs.PyFileSystem(pafs.FSSpecHandler(LocalFileSystem())))


def test_a_local_run_holds_the_folder_itself(tmp_path: Path):
    files = TrackerFiles(RunDir(tmp_path), "wandb")
    assert files.folder == tmp_path / "wandb"
    (files.folder / "a").write_text("1")
    files.close()
    assert (tmp_path / "wandb" / "a").read_text() == "1"


def test_a_far_run_gets_what_changed_and_the_next_driver_gets_it_back(far_run: RunDir, tmp_path: Path, monkeypatch):
    written: list[str] = []
    write_bytes = RunDir.write_bytes
    monkeypatch.setattr(RunDir, "write_bytes", lambda run, at, data: (written.append(at), write_bytes(run, at, data)))
    first = TrackerFiles(far_run, "mlflow")
    (first.folder / "deep").mkdir()
    (first.folder / "deep" / "a").write_text("1")
    (first.folder / "b").write_text("2")
    (first.folder / "link").symlink_to("b")
    first.copy()
    first.copy()
    assert written == ["mlflow/b", "mlflow/deep/a"]
    (first.folder / "b").write_text("22")
    first.close()
    assert written[2:] == ["mlflow/b"]
    assert (tmp_path / "run" / "mlflow" / "b").read_text() == "22"

    second = TrackerFiles(far_run, "mlflow")
    second.fetch()
    assert (second.folder / "deep" / "a").read_text() == "1" and (second.folder / "b").read_text() == "22"
    second.close()
    assert len(written) == 3, "nothing changed"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_copy_on_this_node_goes_even_if_the_store_fails(far_run: RunDir, tmp_path: Path, monkeypatch):
    files = TrackerFiles(far_run, "wandb")
    (files.folder / "a").write_text("1")

    def fails(*_: object) -> None:
        raise RunDirError("the store does not answer")

    monkeypatch.setattr(RunDir, "write_bytes", fails)
    with pytest.raises(RunDirError):
        files.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_id_is_kept_and_a_damaged_one_is_told(far_run: RunDir, tmp_path: Path):
    assert known_id(far_run, "wandb") is None
    keep_id(far_run, "wandb", "abc")
    assert known_id(far_run, "wandb") == "abc"
    (tmp_path / "run" / "wandb" / "run.json").write_text("{")
    with pytest.raises(RunDirError, match=r"remove it, and the tracker starts a new run"):
        known_id(far_run, "wandb")
