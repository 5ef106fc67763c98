"""The journal's files: immutable, numbered segments, each closed by a checksum.

Owned by the tree-manager actor, which writes one segment per commit and reads them all when it starts. The tree's
journal interprets the bytes; nothing here does.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import TREE, RunDir

_SEGMENT = re.compile(r"segment-([0-9]{8,})")


@dataclass(frozen=True)
class SegmentsRead:
    """Segments in order, and what is wrong with the last one if it had to be skipped."""

    segments: list[tuple[int, bytes]]
    damaged: str | None = None


class Segments:
    """The segments of one run, numbered from 0 without gaps."""

    def __init__(self, run: RunDir):
        self.run = run

    def write_segment(self, number: int, data: bytes) -> None:
        """Store one segment permanently. Writing the same content again changes nothing; different content raises
        RunDirError."""
        name = f"{TREE}/{_name(number)}"
        if self.run.exists(name):
            stored = _opened(self.run.read_bytes(name))
            if stored == data:
                return
            if stored is not None:
                raise RunDirError(
                    f"{self.run.location}/{name} already exists with different content; two drivers may be using "
                    "this run: stop one of them"
                )
        self.run.write_bytes(name, _closed(data))

    def numbers(self) -> list[int]:
        """Numbers of all segments there are, damaged ones included."""
        matches = map(_SEGMENT.fullmatch, self.run.names(TREE))
        # Only names that `write_segment` gives: `segment-7` beside `segment-00000007` would be the same number twice.
        return sorted(int(match[1]) for match in matches if match and match[0] == _name(int(match[1])))

    def read_segments(self, start: int = 0) -> SegmentsRead:
        """All segments from number `start` on.

        A damaged last segment is skipped and reported: its commit was never acknowledged, or the disk lost it. A gap or
        damage before that raises RunDirError, because all later segments build on it.
        """
        numbers = [number for number in self.numbers() if number >= start]
        segments: list[tuple[int, bytes]] = []
        for expected, number in enumerate(numbers, start):
            name = f"{TREE}/{_name(number)}"
            if number != expected:
                raise RunDirError(
                    f"{self.run.location}/{TREE}/{_name(expected)} is missing although later ones exist; "
                    "restore it from a copy, or start a new run"
                )
            data = _opened(self.run.read_bytes(name))
            if data is None and number == numbers[-1]:
                return SegmentsRead(
                    segments, f"{name} is damaged and skipped; the run continues from the segment before"
                )
            if data is None:
                raise RunDirError(
                    f"{self.run.location}/{name} is damaged and later segments build on it; restore it from a copy, "
                    "or start a new run"
                )
            segments.append((number, data))
        return SegmentsRead(segments)


def _name(number: int) -> str:
    return f"segment-{number:08d}"


def _closed(data: bytes) -> bytes:
    footer = {"num_bytes": len(data), "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest()}
    return data + b"\n" + json.dumps(footer).encode() + b"\n"


def _opened(stored: bytes) -> bytes | None:
    """The content without its footer; None if the footer does not match it."""
    data, _, footer = stored.removesuffix(b"\n").rpartition(b"\n")
    return data if stored == _closed(data) and footer else None
