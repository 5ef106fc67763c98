"""The run directory: its layout, atomic writes, committed checkpoint folders. A promise to users (docs/design.md).

Owns the names of files and folders below RUN, and how they are written so that a crash leaves nothing half-written.
The driver creates or opens it; a `RunDir` pickles and reopens in any worker. It never interprets what it stores, and no
name in it comes from model text. All paths given to its methods are relative to RUN, with `/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError, RunDirError

CONFIG, ENVIRONMENT, METRICS, SUMMARY = "config.yaml", "environment.json", "metrics.jsonl", "summary.json"
TREE, SAMPLES, QUARANTINE, CHECKPOINTS = "tree", "samples", "quarantine", "checkpoints"
BASE_DIR, TARGET, BEST, COMMIT = "checkpoints/base", "target", "best", "COMMIT"
_ROUND = re.compile(r"round-(\d+)")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]+")


def checkpoint_dir(round: int) -> str:
    """Folder of the checkpoint written at the end of `round`; its weights are version `round + 1`."""
    return f"{CHECKPOINTS}/round-{round}"


def weights_dir(version: int) -> str:
    """Folder of a weights version in loadable (untied) form: version 0 is the published base, v is round v - 1's."""
    return f"{BASE_DIR if version == 0 else checkpoint_dir(version - 1)}/weights"


class RunDir:
    """One run's directory. A fusion needs a path that every node sees, for checkpoints are written as plain files.

    All else goes through pyarrow, so a finished run may also be read from another filesystem (`s3://…`, `gs://…`).
    `filesystem` overrides what the location would give, for a filesystem with its own settings; it must pickle.
    """

    def __init__(self, location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None):
        self.location = os.fspath(location)
        self._given = filesystem
        self.filesystem, self.root = _resolve(self.location, filesystem)

    def __reduce__(self):
        return RunDir, (self.location, self._given)

    def __repr__(self) -> str:
        return f"RunDir({self.location!r})"

    # -- beginning ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        location: str | os.PathLike[str],
        config: FusionConfig,
        environment: dict[str, Any],
        filesystem: pa.fs.FileSystem | None = None,
    ) -> RunDir:
        """Begin a run: the directory, then its resolved configuration and environment, before anything else.

        Raises ConfigError (field run_dir) if it already holds a run or cannot be written.
        """
        run = check_new(location, filesystem)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        try:
            run.write_bytes(CONFIG, text.encode())
            run.write_bytes(ENVIRONMENT, (json.dumps(environment, indent=2, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise _not_writable(run.location, str(error)) from error
        return run

    @classmethod
    def open(cls, location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> RunDir:
        """An existing run. Raises RunDirError if there is none."""
        run = cls(location, filesystem)
        if not run.exists(CONFIG):
            raise RunDirError(
                f"{run.location} holds no run (no {CONFIG}); check the path, or start one with `bohdi fuse`"
            )
        return run

    def config(self) -> FusionConfig:
        """The resolved configuration the run was started with."""
        return FusionConfig.model_validate(yaml.safe_load(self.read_bytes(CONFIG)))

    def environment(self) -> dict[str, Any]:
        """The environment written when the run began."""
        return json.loads(self.read_bytes(ENVIRONMENT))

    # -- files -------------------------------------------------------------------------------------------------------

    @property
    def is_local(self) -> bool:
        """Whether paths below `root` can be opened directly on this node."""
        return isinstance(self.filesystem, pa.fs.LocalFileSystem)

    def path(self, relative: str = "") -> str:
        """The path on `filesystem`; for a local run an absolute path of this node."""
        return f"{self.root}/{relative}" if relative else self.root

    def exists(self, relative: str = "") -> bool:
        return self.filesystem.get_file_info(self.path(relative)).type != pa.fs.FileType.NotFound

    def names(self, relative: str) -> list[str]:
        """Names in a folder, sorted; [] if it does not exist. Files that are still being written do not show."""
        selector = pa.fs.FileSelector(self.path(relative), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if not _TEMPORARY.search(name))

    def read_bytes(self, relative: str) -> bytes:
        with self.filesystem.open_input_stream(self.path(relative)) as stream:
            return stream.read()

    def write_bytes(self, relative: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, replacing any of that name. A reader sees the old content or the new one, never a part.

        Local: a temporary file, flushed to disk, then renamed. Object stores: one put, visible when complete.
        """
        path = self.path(relative)
        self.filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
        if not self.is_local:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(data)
            return
        temporary = f"{path}.tmp-{uuid.uuid4().hex}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(os.path.dirname(path))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def delete(self, relative: str) -> None:
        """Remove a file or a folder with all it holds; nothing happens if it is not there."""
        kind = self.filesystem.get_file_info(self.path(relative)).type
        if kind == pa.fs.FileType.Directory:
            self.filesystem.delete_dir(self.path(relative))
        elif kind == pa.fs.FileType.File:
            self.filesystem.delete_file(self.path(relative))

    # -- folders that count only once they are committed -------------------------------------------------------------

    def commit(self, folder: str, facts: dict[str, Any]) -> None:
        """Write `folder`/COMMIT: everything else in the folder must be complete. `facts` are plain JSON values."""
        record = {**facts, "committed_at": time.time(), "commit_id": uuid.uuid4().hex}
        self.write_bytes(f"{folder}/{COMMIT}", (json.dumps(record) + "\n").encode())

    def commit_facts(self, folder: str) -> dict[str, Any] | None:
        """What COMMIT says, {} if it is empty; None if the folder is not committed."""
        if not self.exists(f"{folder}/{COMMIT}"):
            return None
        return json.loads(self.read_bytes(f"{folder}/{COMMIT}") or b"{}")

    def is_committed(self, round: int) -> bool:
        """Whether the checkpoint of `round` is complete."""
        return self.exists(f"{checkpoint_dir(round)}/{COMMIT}")

    def committed_rounds(self) -> list[int]:
        """Rounds with a complete checkpoint, ascending."""
        return [round for round in self._rounds() if self.is_committed(round)]

    def clean_uncommitted(self) -> list[str]:
        """Remove checkpoint folders without COMMIT and return them. Only at start: never while a trainer writes."""
        folders = [checkpoint_dir(round) for round in self._rounds() if not self.is_committed(round)]
        if self.exists(BASE_DIR) and not self.exists(f"{BASE_DIR}/{COMMIT}"):
            folders.append(BASE_DIR)
        for folder in folders:
            self.delete(folder)
        return folders

    def _rounds(self) -> list[int]:
        matches = (_ROUND.fullmatch(name) for name in self.names(CHECKPOINTS))
        return sorted(int(match.group(1)) for match in matches if match)

    # -- whole folders between this node and the run -----------------------------------------------------------------

    def put_dir(self, source: Path, relative: str) -> None:
        """Copy a local folder into the run, replacing `relative` if it is there (RUN/target and RUN/best)."""
        if not self.is_local:
            self.delete(relative)
            self.filesystem.create_dir(self.path(relative), recursive=True)
            pa.fs.copy_files(str(source), self.path(relative), pa.fs.LocalFileSystem(), self.filesystem)
            return
        final = Path(self.path(relative))
        final.parent.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex
        fresh, old = final.with_name(f"{final.name}.tmp-{token}"), final.with_name(f"{final.name}.old.tmp-{token}")
        shutil.copytree(source, fresh)
        if final.exists():
            final.rename(old)
        fresh.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def local_dir(self, folder: str, cache: Path | None = None) -> Path:
        """Where this node can read a committed folder with plain file access (vLLM, DeepSpeed, transformers).

        A local run gives the folder itself; any other is downloaded once per commit into `cache` (default: a folder of
        the system's temporary directory). Raises RunDirError if the folder is not committed.
        """
        facts = self.commit_facts(folder)
        if facts is None:
            raise RunDirError(f"{self.location}/{folder} is not committed yet; its writer has to finish it first")
        if self.is_local:
            return Path(self.path(folder))
        written_at = self.filesystem.get_file_info(self.path(f"{folder}/{COMMIT}")).mtime_ns
        this_commit = f"{self.location}/{folder}/{facts.get('commit_id')}/{written_at}"
        key = hashlib.blake2b(this_commit.encode(), digest_size=16).hexdigest()
        root = cache or Path(tempfile.gettempdir()) / f"bohdi_ray-{os.getuid()}"
        final = root / key
        if final.exists():
            return final
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = root / f"{key}.tmp-{uuid.uuid4().hex}"
        fresh.mkdir()
        pa.fs.copy_files(self.path(folder), str(fresh), self.filesystem, pa.fs.LocalFileSystem())
        try:
            fresh.rename(final)
        except OSError:  # another process of this node was faster; both copies are the same
            shutil.rmtree(fresh, ignore_errors=True)
        return final


def check_new(location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> RunDir:
    """Make sure a run can begin at `location`, leaving at most an empty directory there.

    Raises ConfigError (field run_dir) if it already holds a run, is read-only, or cannot be reached.
    """
    run = RunDir(location, filesystem)
    try:
        for name in (CONFIG, TREE, SAMPLES, CHECKPOINTS):
            if run.exists(name):
                raise ConfigError(
                    "run_dir",
                    run.location,
                    "it already holds a run",
                    "Choose another run_dir; `{time}` in it gives a new one each time.",
                )
        if run.is_local and _is_marked_read_only(Path(run.root)):
            raise _not_writable(run.location, "the folder is marked read-only")
        run.write_bytes(".writable", b"")
        run.delete(".writable")
    except OSError as error:
        raise _not_writable(run.location, str(error)) from error
    return run


def _is_marked_read_only(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, gives nobody the right to write. Root could write
    all the same, but whoever took that right away did not want it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return not existing.stat().st_mode & 0o222


def _not_writable(location: str, why: str) -> ConfigError:
    return ConfigError(
        "run_dir",
        location,
        f"it cannot be written ({why})",
        "Choose a folder you may write to, or mend its permissions.",
    )


def _sync_folder(path: str) -> None:  # a rename in it then outlasts a power cut
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resolve(location: str, filesystem: pa.fs.FileSystem | None) -> tuple[pa.fs.FileSystem, str]:
    if filesystem is not None:
        return filesystem, location.rstrip("/")
    if "://" not in location:
        return pa.fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))
    try:
        filesystem, root = pa.fs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError("run_dir", location, f"no filesystem can be made of it ({error})", "Use a path.") from error
    return filesystem, root.rstrip("/")
