"""The run directory: its layout, atomic writes, committed checkpoint folders. A promise to users (docs/design.md).

Owns the names of files and folders below RUN. The driver creates or opens it; a `RunDir` pickles and reopens in any
worker. How files are written so that a crash leaves nothing half-written is filesystem.py's affair. It never interprets
what it stores, and no name in it comes from model text. All paths given to its methods are relative to RUN, with `/`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.loading import dump_config, parse_config
from bohdi_ray.config.plain_yaml import YamlFault, read_yaml
from bohdi_ray.config.renamed import with_new_names
from bohdi_ray.errors import ConfigError, ConfigErrors, RunDirError
from bohdi_ray.languages.questions import TEXT_RULES
from bohdi_ray.run.filesystem import COMMIT, Place, place_of
from bohdi_ray.run.json_files import facts

CONFIG, ENVIRONMENT, METRICS, SUMMARY = "config.yaml", "environment.json", "metrics.jsonl", "summary.json"
TREE, SAMPLES, REPLAY, QUARANTINE, CHECKPOINTS = "tree", "samples", "replay", "quarantine", "checkpoints"
EXAMPLES = "examples"
BASE, TARGET, BEST = "base", "target", "best"
BASE_DIR = f"{CHECKPOINTS}/{BASE}"
ROUND_NAME = re.compile(r"round-(\d+)")


def round_name(round: int) -> str:
    """Name of a round's checkpoint in the folder of checkpoints."""
    return f"round-{round}"


def checkpoint_dir(round: int) -> str:
    """Folder of the checkpoint written at the end of `round`; its weights are version `round + 1`."""
    return f"{CHECKPOINTS}/{round_name(round)}"


def weights_dir(version: int) -> str:
    """Folder of a weights version in loadable (untied) form: version 0 is the published base, v is round v - 1's."""
    return f"{BASE_DIR if version == 0 else checkpoint_dir(version - 1)}/weights"


class RunDir:
    """One run's directory, on a filesystem that every node reaches: a path, or an address pyarrow knows (`s3://…`).

    `filesystem` overrides the one that the location implies, for a filesystem with its own settings; it must pickle.
    Raises ConfigError for a location that contains a secret or has no known filesystem.
    """

    def __init__(self, location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None):
        self.location = os.fspath(location)
        self._given = filesystem
        self._place = place_of(self.location, filesystem)
        self.filesystem, self.root = self._place.filesystem, self._place.path

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
        try:
            run.write_config(config)
            run.write_environment({"text_rules": TEXT_RULES, **environment})
        except RunDirError as error:
            raise _not_writable(run.location, str(error.__cause__)) from error
        return run

    @classmethod
    def open(cls, location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> RunDir:
        """Opens an existing run. Raises RunDirError if there is none."""
        run = cls(location, filesystem)
        if not run.exists(CONFIG):
            raise RunDirError(
                f"{run.location} holds no run (no {CONFIG}); check the path, or start one with `bohdi fuse`"
            )
        return run

    def config(self) -> FusionConfig:
        """The resolved configuration the run was started with. Raises RunDirError if it is damaged."""
        try:
            return parse_config(with_new_names(read_yaml(self.read_bytes(CONFIG).decode())))
        except (UnicodeDecodeError, YamlFault, ConfigErrors) as error:
            raise RunDirError(
                f"{self.location}/{CONFIG} is damaged, or another version wrote it ({error!s:.500}); restore it from a "
                "copy, or use the version that wrote it"
            ) from error

    def write_config(self, config: FusionConfig) -> None:
        """Replaces the configuration, valid from here on."""
        self.write_bytes(CONFIG, dump_config(config).encode())

    def write_environment(self, environment: dict[str, Any], name: str = ENVIRONMENT) -> None:
        """Records the machine of a driver."""
        self.write_bytes(name, (json.dumps(environment, indent=2, sort_keys=True) + "\n").encode())

    def environment(self) -> dict[str, Any]:
        """The environment written when the run began. Raises RunDirError if it is missing or damaged."""
        where = f"{self.location}/{ENVIRONMENT}"
        try:
            return facts(self.read_bytes(ENVIRONMENT), where, "restore it from a copy")
        except FileNotFoundError as error:
            raise RunDirError(f"{where} is missing; restore it from a copy") from error

    # -- files -------------------------------------------------------------------------------------------------------

    @property
    def is_local(self) -> bool:
        """Whether paths below `root` can be opened directly on this node."""
        return self._place.is_local

    def place(self, relative: str = "") -> Place:
        """A file or folder of the run."""
        return self._place.child(relative)

    def path(self, relative: str = "") -> str:
        """The path on `filesystem`; for a local run an absolute path of this node."""
        return self._place.child(relative).path

    def address(self, relative: str = "") -> str:
        """A name of this file or folder that works in any process: for a local run its path, else an address."""
        place = self._place.child(relative)
        return place.path if self.is_local else place.location

    def shown(self, relative: str = "") -> str:
        """The path for messages, or the address without its query."""
        place = self._place.child(relative)
        return place.path if self.is_local else place.shown

    def exists(self, relative: str = "") -> bool:
        return self._place.child(relative).exists()

    def names(self, relative: str) -> list[str]:
        """Names in a folder, sorted; [] if it does not exist. Files that are still being written do not show."""
        return self._place.child(relative).names()

    def read_bytes(self, relative: str) -> bytes:
        return self._place.child(relative).read_bytes()

    def write_bytes(self, relative: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, replacing any of that name. A reader sees the old content or the new one, never a part.

        Raises RunDirError, with what to do, when the disk is full, permission is denied or the storage fails.
        """
        self._place.child(relative).write_bytes(data)

    def delete(self, relative: str) -> None:
        """Remove a file or a folder with all it holds, its COMMIT first; nothing happens if it is not there."""
        self._place.child(relative).delete()

    # -- folders that count only once they are committed -------------------------------------------------------------

    def commit(self, folder: str, facts: dict[str, Any]) -> None:
        """Write `folder`/COMMIT: everything else in the folder must be complete. `facts` are plain JSON values."""
        self._place.child(folder).commit(facts)

    def commit_facts(self, folder: str) -> dict[str, Any] | None:
        """The facts in the folder's COMMIT, {} if it is empty; None if the folder is not committed."""
        return self._place.child(folder).commit_facts()

    def is_exported(self, folder: str) -> bool:
        """Whether RUN/target or RUN/best is complete: a local folder is renamed into place, any other has a COMMIT."""
        return self.exists(folder if self.is_local else f"{folder}/{COMMIT}")

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
        return self._place.child(CHECKPOINTS).numbers(ROUND_NAME)


def check_new(location: str | os.PathLike[str], filesystem: pa.fs.FileSystem | None = None) -> RunDir:
    """Check that a run can begin at `location`, leaving at most an empty directory there.

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
    except RunDirError as error:
        raise _not_writable(run.location, str(error.__cause__)) from error
    return run


def _is_marked_read_only(folder: Path) -> bool:
    """Whether the folder, or its nearest existing parent, gives nobody write permission. Root could still write, but
    the permission was removed on purpose."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return not existing.stat().st_mode & 0o222


def _not_writable(location: str, why: str) -> ConfigError:
    return ConfigError(
        "run_dir",
        location,
        f"it cannot be written ({why})",
        "Choose a folder you may write to, or correct its permissions.",
    )
