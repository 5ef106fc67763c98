"""A small filesystem of its own for a test, where mounting is permitted: it can be filled to the brim and sealed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs; what is in it goes with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, free_bytes: int) -> None:
        """Leaves so much room, in whole pages."""
        self.drain()
        size = shutil.disk_usage(self.folder).free - free_bytes
        with self._ballast.open("wb") as file:
            for _ in range(size // 4096):
                file.write(bytes(4096))

    def drain(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def seal(self, name: str) -> None:
        """Nobody, not even root, may write into this folder of it any more."""
        folder = str(self.folder / name)
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    def open_again(self, name: str) -> None:
        """Undoes `seal`."""
        subprocess.run(["umount", str(self.folder / name)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounted at `folder` while the block runs; the test is skipped where that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
