"""Copies of committed folders on a node: once per commit, few of them, never one that somebody reads."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bohdi_ray.errors import RunDirError
from bohdi_ray.run import node_files
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.node_files import KEEP, on_this_node, plain_files, plain_weights, scratch_of, upload
from bohdi_ray.run.run_dir import BASE_DIR, RunDir, checkpoint_dir, weights_dir


def commit_version(run: RunDir, version: int, content: bytes = b"") -> str:
    folder = BASE_DIR if version == 0 else checkpoint_dir(version - 1)
    run.write_bytes(f"{folder}/weights/model.safetensors", content or b"%d" % version)
    run.write_bytes(f"{folder}/probe.json", b"{}")
    run.commit(folder, {})
    return folder


def copies(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.is_dir()]


def test_a_committed_folder_is_plain_files_of_this_node(run: RunDir, tmp_path: Path):
    cache = tmp_path / "cache"
    run.write_bytes(f"{BASE_DIR}/weights/model.safetensors", b"half")
    with pytest.raises(RunDirError, match="not committed"), on_this_node(run.place(BASE_DIR), cache):
        pass
    folder = commit_version(run, 0)
    with on_this_node(run.place(folder), cache) as first, on_this_node(run.place(folder), cache) as second:
        assert first == second and (first / "weights" / "model.safetensors").read_bytes() == b"0"
        assert (first == Path(run.path(folder))) == run.is_local
        assert (first / "probe.json").exists()
    assert not cache.exists() or len(copies(cache)) == 1
    run.write_bytes(f"{checkpoint_dir(0)}/COMMIT", b"")  # an empty one counts too
    with on_this_node(run.place(checkpoint_dir(0)), cache) as empty:
        assert run.commit_facts(checkpoint_dir(0)) == {} and empty.is_dir()


def test_a_folder_committed_anew_is_downloaded_anew(run: RunDir, tmp_path: Path):
    for content in (b"first", b"second"):
        folder = commit_version(run, 1, content)
        with on_this_node(run.place(folder), tmp_path / "cache") as here:
            assert (here / "weights" / "model.safetensors").read_bytes() == content


def test_an_optimizer_is_not_downloaded_with_the_weights_but_by_itself(run: RunDir, tmp_path: Path):
    folder = commit_version(run, 1)
    run.write_bytes(f"{folder}/optimizer/state/rank-0.pt", b"moments")
    run.commit(f"{folder}/optimizer", {})
    with on_this_node(run.place(folder), tmp_path / "cache") as here:
        assert run.is_local or not (here / "optimizer").exists()
    with on_this_node(run.place(f"{folder}/optimizer"), tmp_path / "cache") as here:
        assert (here / "state" / "rank-0.pt").read_bytes() == b"moments"


@pytest.fixture
def remote(s3_address: str, config) -> RunDir:
    return RunDir.create(s3_address, config, {})


def test_old_copies_go_and_what_is_read_stays(remote: RunDir, tmp_path: Path):
    cache = tmp_path / "cache"
    folders = [commit_version(remote, version) for version in range(5)]
    with on_this_node(remote.place(folders[0]), cache) as read:
        for folder in folders[1:]:
            with on_this_node(remote.place(folder), cache):
                pass
        assert (read / "weights" / "model.safetensors").read_bytes() == b"0"
        assert len(copies(cache)) == KEEP + 1
    with on_this_node(remote.place(folders[4]), cache), on_this_node(remote.place(commit_version(remote, 9)), cache):
        pass
    assert len(copies(cache)) == KEEP
    node_files.clean(cache)
    assert list(cache.iterdir()) == []


def test_many_readers_of_a_node_download_once(remote: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, downloads = commit_version(remote, 3), []
    download = node_files._download
    monkeypatch.setattr(node_files, "_download", lambda *a: (downloads.append(1), download(*a)))

    def read(_: int) -> bytes:
        with on_this_node(remote.place(folder), tmp_path / "cache") as here:
            return (here / "weights" / "model.safetensors").read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, range(12))) == {b"3"}
    assert len(downloads) == 1


def _cut_short(folder: Path, ready) -> None:
    copy = folder / ("a" * 32)
    copy.with_suffix(".tmp").mkdir()
    with node_files._locked(copy, node_files.fcntl.LOCK_EX):
        ready.set()
        os._exit(1)


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    cache = tmp_path / "cache"
    cache.mkdir()
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_cut_short, args=(cache, ready))
    process.start()
    process.join(20)
    assert ready.is_set() and len(list(cache.iterdir())) == 2
    node_files.clean(cache)
    assert list(cache.iterdir()) == []


def test_what_is_written_for_a_path_is_written_there_and_for_an_address_uploaded_when_whole(
    s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(node_files.tempfile, "tempdir", str(tmp_path))
    node_files._own_scratch.cache_clear()
    assert scratch_of(str(tmp_path / "folder")) == str(tmp_path / "folder")
    upload(str(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()

    scratch = Path(scratch_of(s3_address))
    assert scratch == Path(scratch_of(s3_address)) and scratch.is_relative_to(tmp_path)
    (scratch / "deep" / "er").mkdir(parents=True)
    (scratch / "deep" / "er" / "file").write_bytes(b"x" * 6_000_000)  # more than one part of an upload
    assert not place_of(s3_address).exists()
    upload(s3_address)
    assert place_of(s3_address).files_below() == ["deep/er/file"] and not scratch.exists()
    place_of(s3_address).commit()
    with plain_files(s3_address) as here:
        assert (Path(here) / "deep" / "er" / "file").stat().st_size == 6_000_000
    node_files._own_scratch.cache_clear()


def test_weights_by_address_come_with_the_rest_of_their_version(remote: RunDir, tmp_path: Path):
    commit_version(remote, 2)
    with plain_weights(remote.address(weights_dir(2))) as folder:
        assert Path(folder).name == "weights" and (Path(folder).parent / "probe.json").exists()
    with plain_weights(str(tmp_path / "any" / "weights")) as folder:
        assert folder == str(tmp_path / "any" / "weights")
    with pytest.raises(RunDirError, match="not committed"), on_this_node(remote.address(checkpoint_dir(7))):
        pass
