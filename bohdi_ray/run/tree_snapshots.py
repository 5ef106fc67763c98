"""Snapshots of the tree in the run directory: a restart reads the newest one and the segments after it.

RUN/tree/snapshot-<round>/ holds `state.arrow` (`tree/record/snapshot.py`) and, written last, COMMIT: size and checksum,
the number of the first segment that comes after it, and the checksum of the segment before that, which says to which
journal it belongs. The journal remains authoritative: any snapshot may be lost, damaged or removed without loss of
data. Owned by the tree-manager actor; `bohdi tree` reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import COMMIT, TREE, RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import Seeds
from bohdi_ray.tree.record import snapshot

log = logging.getLogger(__name__)
MIN_EVENTS = 20_000
NODES_PER_EVENT = 4
KEEP = 2
STATE = "state.arrow"
FAILED = "no snapshot of the tree after round %d, the journal is sufficient: %r"
_SNAPSHOT = re.compile(r"snapshot-(0|[1-9][0-9]*)")


def folder_of(round: int) -> str:
    """Folder of the snapshot taken right after `round` was closed."""
    return f"{TREE}/snapshot-{round}"


def _checksum(data: bytes | pa.Buffer) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class TreeSnapshots:
    """The snapshots of one run."""

    def __init__(self, run: RunDir):
        self.run = run

    def rounds(self) -> list[int]:
        """Rounds of all complete snapshots, damaged ones included."""
        matches = map(_SNAPSHOT.fullmatch, self.run.names(TREE))
        rounds = sorted(int(match.group(1)) for match in matches if match)
        return [round for round in rounds if self.run.exists(f"{folder_of(round)}/{COMMIT}")]

    def write(self, round: int, copy: snapshot.StateCopy, next_segment: int, last_segment: bytes) -> None:
        """Stores a snapshot and removes all but the newest two, and those of later rounds: they are of a journal that
        was lost.

        `copy` is the state at the end of segment `next_segment - 1`, whose content is `last_segment`. Raises
        RunDirError when it cannot be written; then nothing counts of it.
        """
        folder = folder_of(round)
        self._delete(round)
        sink = pa.BufferOutputStream()
        snapshot.write(copy, sink)
        state = sink.getvalue()
        try:
            self.run.write_bytes(f"{folder}/{STATE}", state)
            written = {"num_bytes": state.size, "blake2b": _checksum(state)}
            after = {"next_segment": next_segment, "last_segment": _checksum(last_segment)}
            self.run.commit(folder, {**written, **after})
        except BaseException:
            with contextlib.suppress(OSError, RunDirError):
                self.run.delete(folder)
            raise
        rounds = self.rounds()
        kept = [other for other in rounds if other <= round][-KEEP:]
        for other in set(rounds).difference(kept):
            self._delete(other)

    def clean(self) -> None:
        """Removes incomplete snapshots. Only at start: not while one is being written."""
        complete = {folder_of(round) for round in self.rounds()}
        for name in self.run.names(TREE):
            if _SNAPSHOT.fullmatch(name) and f"{TREE}/{name}" not in complete:
                try:
                    self.run.delete(f"{TREE}/{name}")
                except (OSError, RunDirError) as error:  # it counts for nothing either way
                    log.warning("%s/%s cannot be removed: %r", TREE, name, error)

    def _delete(self, round: int) -> None:
        self.run.delete(f"{folder_of(round)}/{COMMIT}")
        self.run.delete(folder_of(round))

    def restore(self, round: int, config: FusionConfig, seeds: Seeds) -> Restored:
        """The manager at the journal's end, from the snapshot of `round` and the segments after it.

        Raises RunDirError when it is damaged or does not belong to this journal.
        """
        folder = folder_of(round)
        try:
            facts = self.run.commit_facts(folder) or {}
            next_segment = facts["next_segment"]
            read = Segments(self.run).read_segments(next_segment - 1)
            if not read.segments or _checksum(read.segments[0][1]) != facts["last_segment"]:
                raise RunDirError(f"segment {next_segment - 1} of the journal differs from that of the snapshot")
            state = self.run.read_bytes(f"{folder}/{STATE}")
            if (len(state), _checksum(state)) != (facts["num_bytes"], facts["blake2b"]):
                raise RunDirError(f"{self.run.shown(folder)}/{STATE} is damaged")
            segments = [data for _, data in read.segments[1:]]
            manager = TreeManager.replay(config, seeds, segments, base=state)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise RunDirError(f"{self.run.location}/{folder} cannot be read ({error!r})") from error
        return Restored(manager, next_segment + len(segments), _num_events(segments), read.damaged)


@dataclass(frozen=True, slots=True)
class Restored:
    """The tree at the end of a run's journal."""

    manager: TreeManager
    next_segment: int  # number of the segment to be written next
    num_events: int  # replayed from segments, so not in any snapshot
    damaged: str | None  # what is wrong with the journal's last segment, which was left out


def restore(config: FusionConfig, seeds: Seeds, run: RunDir) -> Restored:
    """The tree at the end of a run's journal, by the shortest way: from the newest readable snapshot and the segments
    after it; without one, from all segments. An unusable snapshot is skipped with a warning.

    A damaged last segment is skipped too. Changes nothing on disk. Raises RunDirError when the journal itself cannot be
    read.
    """
    restored = _restored(config, seeds, run)
    if restored.damaged is not None:
        log.warning("%s", restored.damaged)
    return restored


def _restored(config: FusionConfig, seeds: Seeds, run: RunDir) -> Restored:
    snapshots = TreeSnapshots(run)
    for round in reversed(snapshots.rounds()):
        try:
            return snapshots.restore(round, config, seeds)
        except RunDirError as error:
            log.warning("%s is skipped, the journal is sufficient: %s", folder_of(round), error)
    read = Segments(run).read_segments()
    segments = [data for _, data in read.segments]
    return Restored(TreeManager.replay(config, seeds, segments), len(segments), _num_events(segments), read.damaged)


def _num_events(segments: list[bytes]) -> int:
    return sum(segment.count(b"\n") for segment in segments)  # JSON Lines


class SnapshotWriter:
    """Decides when a snapshot is worth writing, and writes it in a thread while the tree continues to change.

    It is worth it if replaying the events since the last snapshot would take longer than writing a new one: replaying
    one event takes about as long as writing 4 nodes. With fewer than 20,000 events, which are replayed in a fifth of a
    second, none is written, so a run of some hundred samples writes none. A failure is logged; only the snapshot is
    lost.
    """

    def __init__(self, run: RunDir, num_events: int, min_events: int = MIN_EVENTS):
        """`num_events`: number of events in the journal that no snapshot covers."""
        self._snapshots = TreeSnapshots(run)
        self._num_events = num_events
        self._min_events = min_events
        self._thread: threading.Thread | None = None

    def journalled(self, segment: bytes) -> None:
        self._num_events += _num_events([segment])

    def round_closed(self, manager: TreeManager, round: int, next_segment: int, last_segment: bytes) -> None:
        """Called right after `round` was closed and its segment, `last_segment`, written; returns once the state is
        copied. Writes nothing while an earlier snapshot is still being written."""
        pays = self._num_events >= max(self._min_events, manager.tree.num_nodes // NODES_PER_EVENT)
        if not pays or (self._thread is not None and self._thread.is_alive()):
            return
        self._num_events = 0
        try:
            arguments = (round, manager.copy_state(), next_segment, last_segment)
            self._thread = threading.Thread(target=self._write, args=arguments, name="tree-snapshot", daemon=True)
            self._thread.start()
        except (MemoryError, RuntimeError) as error:
            log.warning(FAILED, round, error)

    def wait(self, timeout_s: float) -> None:
        """Waits until the snapshot in progress is written, at most `timeout_s`."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _write(self, *arguments: Any) -> None:
        try:
            self._snapshots.write(*arguments)
        except Exception as error:
            log.warning(FAILED, arguments[0], error)
