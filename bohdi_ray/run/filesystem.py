"""Files at one location, a local path or an address: read, write, list and delete, with actionable errors.

The only module that creates a filesystem from an address and handles what is different on object stores: no rename, no
appending, no folders. `RunDir` and the trainer's checkpoints are built on it. Every failure of a filesystem becomes a
StorageFailed with a remedy; only a missing file stays a FileNotFoundError.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs

from bohdi_ray.config.addresses import is_address, secret_in, without_secrets
from bohdi_ray.errors import SAFE, ConfigError, StorageFailed
from bohdi_ray.run.json_files import facts

COMMIT = "COMMIT"
_FULL = ("no space left", "disk quota exceeded", "os error 28", "file write failed", "quotaexceeded")
_DENIED = ("access_denied", "accessdenied", "permission denied", "http status 403", "invalid_access_key", "signature")
_TOO_SLOW = ("timed out", "timeout", "slow_down")
_TEMPORARY = ".tmp-"
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")  # that pyarrow makes filesystems of


@dataclass(frozen=True)
class Place:
    """A file or folder: `path` on `filesystem`; messages name it by `location`."""

    filesystem: pa.fs.FileSystem
    path: str
    location: str

    def child(self, relative: str) -> Place:
        """The file or folder at a relative path with `/`; "" is the place itself."""
        if not relative:
            return self
        address, mark, query = self.location.partition("?") if is_address(self.location) else (self.location, "", "")
        return Place(self.filesystem, f"{self.path}/{relative}", f"{address.rstrip('/')}/{relative}{mark}{query}")

    @property
    def name(self) -> str:
        """Its name within its parent folder."""
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether `path` can be opened directly on this node."""
        return isinstance(self.filesystem, pa.fs.LocalFileSystem)

    @property
    def shown(self) -> str:
        """The location without its query, for messages."""
        return without_secrets(self.location).partition("?")[0] if is_address(self.location) else self.location

    def kind(self) -> pa.fs.FileType:
        with storage_errors(self.shown, "look at"):
            return self.filesystem.get_file_info(self.path).type

    def exists(self) -> bool:
        return self.kind() != pa.fs.FileType.NotFound

    def names(self) -> list[str]:
        """Names in a folder, sorted; [] if it does not exist. Files that are still being written do not show."""
        with storage_errors(self.shown, "list"):
            selector = pa.fs.FileSelector(self.path, allow_not_found=True)
            names = [info.base_name for info in self.filesystem.get_file_info(selector)]
        return sorted(name for name in names if name and _TEMPORARY not in name)

    def numbers(self, pattern: re.Pattern[str]) -> list[int]:
        """The numbers in those names of a folder that match `pattern` as a whole (its first group), ascending."""
        return sorted(int(match[1]) for match in map(pattern.fullmatch, self.names()) if match)

    def files_below(self) -> list[str]:
        """Relative paths of all files in a folder and the folders in it, sorted; [] if it does not exist."""
        with storage_errors(self.shown, "list"):
            selector = pa.fs.FileSelector(self.path, allow_not_found=True, recursive=True)
            infos = self.filesystem.get_file_info(selector)
        paths = [info.path.removeprefix(f"{self.path}/") for info in infos if info.type == pa.fs.FileType.File]
        return sorted(path for path in paths if _TEMPORARY not in path)

    def make_parent(self) -> None:
        """Creates the parent folder; object stores have none and need none."""
        if self.filesystem.type_name not in ("s3", "gcs", "abfs"):
            self.filesystem.create_dir(self.path.rsplit("/", 1)[0], recursive=True)

    def read_bytes(self) -> bytes:
        """The whole file. Raises FileNotFoundError if it does not exist."""
        with storage_errors(self.shown, "read"), self.filesystem.open_input_stream(self.path) as stream:
            return stream.read()

    def write_bytes(self, data: bytes | pa.Buffer) -> None:
        """Write a whole file, replacing any of that name. A reader sees the old content or the new one, never a part.

        Local: a temporary file, flushed to disk, then renamed. Object stores: one upload, visible when complete.
        """
        with storage_errors(self.shown, "write"):
            self.make_parent()
            if self.is_local:
                _replace_file(self.path, data)
                return
            with self.filesystem.open_output_stream(self.path) as stream:
                stream.write(data)

    def commit(self, facts: dict[str, Any] | None = None) -> None:
        """Write COMMIT into this folder: everything else in it must be complete. `facts` are plain JSON values."""
        record = {**(facts or {}), "committed_at": time.time(), "commit_id": uuid.uuid4().hex}
        self.child(COMMIT).write_bytes((json.dumps(record) + "\n").encode())

    def commit_facts(self) -> dict[str, Any] | None:
        """The facts in the COMMIT of this folder, {} if it is empty; None if the folder is not committed.

        Raises RunDirError if it is damaged.
        """
        remedy = "restore it from a copy, or remove the folder"
        try:
            return facts(self.child(COMMIT).read_bytes() or b"{}", f"{self.shown}/{COMMIT}", remedy)
        except FileNotFoundError:
            return None

    def delete(self) -> None:
        """Remove a file or a folder with its content; does nothing if it does not exist.

        The COMMIT of a folder is deleted first, so that a crash half-way leaves an uncommitted folder.
        """
        with storage_errors(self.shown, "delete"), contextlib.suppress(FileNotFoundError):
            kind = self.filesystem.get_file_info(self.path).type
            if kind == pa.fs.FileType.File:
                self.filesystem.delete_file(self.path)
            elif kind == pa.fs.FileType.Directory:
                with contextlib.suppress(FileNotFoundError):
                    self.filesystem.delete_file(f"{self.path}/{COMMIT}")
                self.filesystem.delete_dir(self.path)


def place_of(location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> Place:
    """The place that a path or an address names; `filesystem` overrides the one that the location implies.

    Raises ConfigError (field run_dir) for an address that contains a secret or has no known filesystem.
    """
    location = os.fspath(location)
    if filesystem is not None:
        return Place(filesystem, location.rstrip("/"), location)
    if not is_address(location):
        return Place(_LOCAL, os.path.abspath(os.path.expanduser(location)), location)
    if secret := secret_in(location):
        rule = f"it contains {secret}, and would be written into the run and into messages"
        remedy = "Leave it out: credentials come from the environment, AWS_ACCESS_KEY_ID for example, or the machine."
        raise ConfigError("run_dir", without_secrets(location), rule, remedy)
    try:
        filesystem, root = _filesystem_of(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        rule = f"it names no known filesystem ({without_secrets(str(error))})"
        raise ConfigError("run_dir", location, rule, "Use a path, or an address pyarrow knows.") from None
    return Place(filesystem, root.rstrip("/"), location)


_LOCAL = pa.fs.LocalFileSystem()


def _filesystem_of(location: str) -> tuple[pa.fs.FileSystem, str]:
    """One client per bucket and settings, because creating one takes longer than many requests."""
    scheme, _, rest = location.partition("://")
    address, _, query = rest.partition("?")
    if scheme in ("s3", "gs", "gcs"):
        bucket, _, key = address.partition("/")
        filesystem, root = _client(f"{scheme}://{bucket}" + (f"?{query}" if query else ""))
        return filesystem, f"{root.rstrip('/')}/{key}" if key else root
    return _client(location)


@functools.lru_cache(maxsize=32)
def _client(address: str) -> tuple[pa.fs.FileSystem, str]:
    if address.startswith("s3://") and "allow_delayed_open=" not in address:
        # A small file is then one request, so it is there as a whole or not at all, and in half the time.
        address += f"{'&' if '?' in address else '?'}allow_delayed_open=true"
    return pa.fs.FileSystem.from_uri(address)


@contextlib.contextmanager
def storage_errors(where: str, what: str) -> Iterator[None]:
    """Turns failures of a filesystem in the block into StorageFailed, which says what to do. `what`: a verb."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        told = storage_error(where, what, error)
        if told is None:
            raise
        raise told from error


def storage_error(where: str, what: str, error: Exception) -> StorageFailed | None:
    """The failure of a filesystem as an error with a remedy; None for an exception that is not a storage failure.

    Writers of weights wrap the system's message in errors of their own, so the text is checked as well as the error
    number.
    """
    number, text = getattr(error, "errno", None), str(error).lower()
    if number in (errno.ENOSPC, errno.EDQUOT) or any(words in text for words in _FULL):
        why, remedy = "the disk is full", "Free some space there."
    elif not isinstance(error, OSError):
        return None
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS) or any(words in text for words in _DENIED):
        why, remedy = "permission is denied", "Correct the permissions or the credentials."
    elif number == errno.ETIMEDOUT or any(words in text for words in _TOO_SLOW):
        why, remedy = "it answers too slowly", "Check the storage and the connection to it."
    else:
        why, remedy = "the storage failed", "Check the storage and the connection to it."
    where = without_secrets(where).partition("?")[0] if is_address(where) else where
    said = " ".join(without_secrets(str(error)).split()) or type(error).__name__
    return StorageFailed(f"cannot {what} {where}: {why} ({said}). {remedy} {SAFE}")


def _replace_file(path: str, data: Any) -> None:
    temporary = f"{path}{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync(path: str) -> None:
    """Flushes a local file or folder to disk; the entries of a folder then survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
