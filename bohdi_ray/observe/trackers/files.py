"""The files of a tracker: in the run directory, or on this node with a copy in the run if that is on an object
store."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs

from bohdi_ray.run.json_files import decoded
from bohdi_ray.run.run_dir import RunDir

_ID = "run.json"


class TrackerFiles:
    """RUN/<name> as a folder that a client library can write into. Close it: this removes the copy on this node."""

    def __init__(self, run: RunDir, name: str):
        self._run, self._name = run, name
        self._temporary = None if run.is_local else Path(tempfile.mkdtemp(prefix="bohdi_ray-"))
        self.folder = Path(run.path(name)) if self._temporary is None else self._temporary / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._copied: dict[Path, tuple[int, int]] = {}  # what the run has: size, time of the last write in ns

    def fetch(self) -> None:
        """Download to this node what an earlier driver left in a run on an object store."""
        if self._temporary is None or not self._run.exists(self._name):
            return
        source, local = self._run.path(self._name), pyarrow.fs.LocalFileSystem()
        pyarrow.fs.copy_files(source, str(self.folder), self._run.filesystem, local)
        self._copied = dict(self._states())

    def copy(self) -> None:
        """Update the copy in a run on an object store."""
        if self._temporary is None:
            return
        for path, state in self._states():
            if self._copied.get(path) != state:
                self._run.write_bytes(f"{self._name}/{path.relative_to(self.folder).as_posix()}", path.read_bytes())
                self._copied[path] = state

    def close(self) -> None:
        """Copies a last time."""
        try:
            self.copy()
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def _states(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """The files on this node. Links are skipped, because an object store has none."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                facts = path.stat()
                yield path, (facts.st_size, facts.st_mtime_ns)


def known_id(run: RunDir, name: str) -> str | None:
    """The tracker's id for this run, if it was stored. Raises RunDirError for a damaged file."""
    at = f"{name}/{_ID}"
    if not run.exists(at):
        return None
    remedy = "remove it, and the tracker starts a new run"
    return decoded(run.read_bytes(at), dict[str, str], run.shown(at), remedy).get("id")


def keep_id(run: RunDir, name: str, run_id: str) -> None:
    """Stores the tracker's id, so that a driver that resumes the run continues the tracker's run."""
    run.write_bytes(f"{name}/{_ID}", (json.dumps({"id": run_id}) + "\n").encode())
