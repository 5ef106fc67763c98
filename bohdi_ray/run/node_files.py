"""Provides folders of a run as plain files on this node when the run itself is on an object store.

Readers that need plain files (vLLM, DeepSpeed, transformers) get a copy of a committed folder, downloaded once per
commit and node (`on_this_node`); writers write into a scratch folder that is uploaded when it is complete
(`scratch_of`, `upload`). A run on a local filesystem uses its own folders: nothing is copied, and both are the folder
itself.

Everything is in $TMPDIR/bohdi_ray-<user>. An unused copy is removed when a newer one arrives; the copies read last are
kept. File locks show who reads, downloads or writes: they end with their process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.fs

from bohdi_ray.config.addresses import above, is_address
from bohdi_ray.errors import RunDirError
from bohdi_ray.run.filesystem import COMMIT, Place, place_of, storage_errors

log = logging.getLogger(__name__)
COPIES_AT_ONCE = 8  # files; a large one is transferred in several parts at a time by itself
KEEP = 2  # copies that nobody reads: those last read
OPTIMIZER = "optimizer"  # a committed folder of its own within a checkpoint: never downloaded with it
_LOCAL = pyarrow.fs.LocalFileSystem()


def node_folder() -> Path:
    """The folder for this node's copies; created, if necessary, for this user alone."""
    folder = Path(tempfile.gettempdir()) / f"bohdi_ray-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


# -- reading -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def on_this_node(folder: str | Place, cache: Path | None = None) -> Iterator[Path]:
    """A committed folder as plain files, while the block runs; without its optimizer, which has its own commit.

    Waits while another process of this node downloads the same. Raises RunDirError if the folder is not committed.
    """
    place = folder if isinstance(folder, Place) else place_of(folder)
    facts = place.commit_facts()
    if facts is None:
        raise RunDirError(f"{place.shown} is not committed yet; its writer has to finish it first")
    if place.is_local:
        yield Path(place.path)
        return
    with _read_copy(place, facts, cache or node_folder() / "copies") as copy:
        yield copy


@contextlib.contextmanager
def plain_files(folder: str) -> Iterator[str]:
    """As `on_this_node`, for callers that have a location: a path is used as it is, committed or not."""
    if not is_address(folder):
        yield folder
        return
    with on_this_node(folder) as copy:
        yield str(copy)


@contextlib.contextmanager
def plain_weights(weights_dir: str) -> Iterator[str]:
    """Weights as plain files, next to the rest of their version, while the block runs."""
    if not is_address(weights_dir):
        yield weights_dir
        return
    with on_this_node(above(weights_dir)) as copy:
        yield str(copy / place_of(weights_dir).name)


@contextlib.contextmanager
def _read_copy(place: Place, facts: dict[str, Any], cache: Path) -> Iterator[Path]:
    with storage_errors(str(cache), "write"):
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        written_at = place.filesystem.get_file_info(f"{place.path}/{COMMIT}").mtime_ns
        this_commit = f"{place.location}\n{facts.get('commit_id')}\n{written_at}"
        copy = cache / hashlib.blake2b(this_commit.encode(), digest_size=16).hexdigest()
    while True:
        with _locked(copy, fcntl.LOCK_SH):
            if copy.exists():
                os.utime(copy)
                yield copy
                return
        # Between the two locks another process may download it, or clean it away again.
        with _locked(copy, fcntl.LOCK_EX):
            if not copy.exists():
                clean(cache, KEEP - 1)
                _download(place, copy)


def _download(place: Place, copy: Path) -> None:
    fresh = copy.with_name(f"{copy.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        with storage_errors(f"{place.shown} to {fresh}", "copy"):
            names = [name for name in place.files_below() if name.split("/")[0] != OPTIMIZER]
            _copy_all((place.child(name), Place(_LOCAL, str(fresh / name), str(fresh / name))) for name in names)
            if not (fresh / COMMIT).exists():
                raise RunDirError(
                    f"{place.shown} was removed while it was read; only files that no run needs are removed"
                )
            fresh.rename(copy)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def clean(cache: Path, keep: int = 0) -> None:
    """Remove unused copies, except the `keep` last read, and incomplete downloads."""
    copies = [path for path in cache.iterdir() if path.suffix != ".lock"]
    whole = sorted((path for path in copies if not path.suffix), key=_last_read, reverse=True)
    for path in {*(path.with_suffix("") for path in copies)} - {*whole[:keep]}:
        with _locked(path, fcntl.LOCK_EX, wait=False) as held:
            if held:
                shutil.rmtree(path, ignore_errors=True)
                shutil.rmtree(path.with_suffix(".tmp"), ignore_errors=True)
                path.with_suffix(".lock").unlink(missing_ok=True)


def _last_read(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _locked(path: Path, how: int, wait: bool = True) -> Iterator[bool]:
    """Holds the lock on `path` while the block runs; yields False if another process has it and `wait` is off."""
    descriptor = _lock(path.with_suffix(".lock"), how if wait else how | fcntl.LOCK_NB)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(name: Path, how: int) -> int | None:
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            # Whoever had it may have removed the file: then this lock is nobody's.
            if os.path.samestat(os.fstat(descriptor), os.stat(name)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            log.debug("%s was removed while waiting for it; creating it again", name)
        os.close(descriptor)


# -- writing -----------------------------------------------------------------------------------------------------------


def scratch_of(folder: str) -> str:
    """The folder into which this process writes the files of `folder`: the folder itself, or a scratch folder on this
    node.

    Returns the same folder each time, until `upload` or `drop_scratch`.
    """
    if not is_address(folder):
        return folder
    scratch = os.path.join(_own_scratch(os.getpid()), hashlib.blake2b(folder.encode(), digest_size=16).hexdigest())
    os.makedirs(scratch, exist_ok=True)
    return scratch


def upload(folder: str) -> None:
    """Uploads what this process wrote into the scratch folder of `folder` and removes the scratch folder. Does nothing
    for a local folder. Several processes may upload into one folder; commit it only when all have finished."""
    if not is_address(folder):
        return
    scratch, place = scratch_of(folder), place_of(folder)
    with storage_errors(place.shown, "write"):
        here = place_of(scratch)
        _copy_all((here.child(name), place.child(name)) for name in here.files_below())
    drop_scratch(folder)


def _copy_all(pairs: Iterable[tuple[Place, Place]]) -> None:
    """Copies files, several at a time. Raises the error of the first file that fails."""

    def copy(pair: tuple[Place, Place]) -> None:
        source, target = pair
        target.make_parent()
        pyarrow.fs.copy_files(source.path, target.path, source.filesystem, target.filesystem)

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        list(pool.map(copy, pairs))


def drop_scratch(folder: str) -> None:
    """Removes what this process wrote for `folder` and did not upload. Does nothing for a local folder."""
    if is_address(folder):
        shutil.rmtree(scratch_of(folder), ignore_errors=True)


@functools.cache
def _own_scratch(pid: int) -> str:
    """This process's folder (`pid`: a forked child has its own); those of processes that are gone are removed."""
    scratch = node_folder() / "scratch"
    scratch.mkdir(exist_ok=True)
    clean(scratch)
    own = scratch / uuid.uuid4().hex
    _lock(own.with_suffix(".lock"), fcntl.LOCK_SH)  # until this process ends
    own.mkdir()
    return str(own)
