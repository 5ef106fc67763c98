"""A filesystem whose operations fail, break off half-way or take long, as a disk or an object store may."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

# What an error is told as, by its number; and a name for the test.
KINDS = {
    errno.ENOSPC: (r"the disk is full .*Free some space.*bohdi resume RUN", "disk full"),
    errno.EDQUOT: (r"the disk is full .*Free some space.*bohdi resume RUN", "quota"),
    errno.EACCES: (r"permission is denied .*Correct the permissions.*bohdi resume RUN", "permission lost"),
    errno.EROFS: (r"permission is denied .*Correct the permissions.*bohdi resume RUN", "read-only"),
    errno.EIO: (r"the storage failed .*Check the storage.*bohdi resume RUN", "broken"),
}


class Fault:
    """What goes wrong from now on: operations whose `operation path` matches `pattern` raise OSError(`number`)."""

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None
        self.number = 0
        self.half = False  # a write leaves half of its data before it fails
        self.delay_s = 0.0
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def arm(self, pattern: str, number: int, half: bool = False) -> None:
        self.pattern, self.number, self.half = re.compile(pattern), number, half

    def mend(self) -> None:
        self.pattern = None

    def strikes(self, operation: str, path: str) -> OSError | None:
        time.sleep(self.delay_s)
        with self.lock:
            self.calls[operation] += 1
        if self.pattern is None or not self.pattern.search(f"{operation} {path}"):
            return None
        return OSError(self.number, os.strerror(self.number), path)


class FaultyHandler(pafs.FileSystemHandler):
    """The local filesystem with `fault` in front of it; no rename and no local paths, as on an object store."""

    def __init__(self, fault: Fault):
        self.fault, self.local = fault, pafs.LocalFileSystem()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def get_type_name(self) -> str:
        return "faulty"

    def normalize_path(self, path: str) -> str:
        return path

    def _go(self, operation: str, path: str) -> None:
        if error := self.fault.strikes(operation, path):
            raise error

    def get_file_info(self, paths: list[str]) -> Any:
        for path in paths:
            self._go("look", path)
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        self._go("list", selector.base_dir)
        return self.local.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.local.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._go("delete", path)
        self.local.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.local.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._go("delete", path)
        self.local.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def open_input_stream(self, path: str) -> Any:
        self._go("read", path)
        return self.local.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        self._go("read", path)
        return self.local.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        error = self.fault.strikes("write", path)
        if error is not None and not self.fault.half:
            raise error
        stream = self.local.open_output_stream(path)
        return stream if error is None else pa.PythonFile(_BreaksOff(stream, error), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError


class _BreaksOff:
    """Takes half of what is written to it, then fails."""

    closed = False

    def __init__(self, stream: Any, error: OSError):
        self._stream, self._error = stream, error

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data)[: len(data) // 2])
        self._stream.close()
        raise self._error

    def flush(self) -> None:
        return

    def close(self) -> None:
        self.closed = True


def faulty_filesystem(fault: Fault) -> pafs.FileSystem:
    return pafs.PyFileSystem(FaultyHandler(fault))
