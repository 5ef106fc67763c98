"""Restarts of the tree from the run directory, whatever state its snapshots are in."""

import errno
import logging
import random

import pytest
from scripted_fusion import ScriptedFusion, make_config, whole

from bohdi_ray.run import tree_snapshots
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.tree_snapshots import SnapshotWriter, TreeSnapshots, restore
from bohdi_ray.tree.manager import TreeManager

CONFIG = make_config(bandit={"window": 4, "threshold": 0.9})


@pytest.fixture
def run_dir(tmp_path):
    return RunDir.create(tmp_path / "run", CONFIG, {})


class Journalled(ScriptedFusion):
    """Writes segments as the actor does; `snapshots` of the rounds after which one is written."""

    def __init__(self, run_dir, manager, snapshots=(), rounds=3, seed=0):
        super().__init__(manager, rounds, random.Random(seed))
        self.journal, self.store, self.wanted = Segments(run_dir), TreeSnapshots(run_dir), snapshots
        self.next_segment = len(self.journal.numbers())

    def point(self):
        super().point()
        self.journal.write_segment(self.next_segment, self.segments[-1])
        self.next_segment += 1
        stats = self.manager.stats()
        if self.closed and self.closed[-1].round == stats["round"] - 1 and self.manager._state.num_committed == 0:
            round = stats["round"] - 1
            if round in self.wanted:
                self.store.write(round, self.manager.copy_state(), self.next_segment, self.segments[-1])


def test_a_restart_takes_the_newest_snapshot_and_the_segments_after_it(run_dir, monkeypatch):
    run = Journalled(run_dir, TreeManager(CONFIG), snapshots=(0, 1))
    run.max_commits = 10  # two rounds of three steps each, and two steps more
    run.run()
    read = []
    original = Segments.read_segments
    monkeypatch.setattr(Segments, "read_segments", lambda self, start=0: read.append(start) or original(self, start))
    restored = restore(CONFIG, None, run_dir)
    assert read == [7], "the last segment that the snapshot of round 1 holds, and those after it"
    assert whole(restored.manager) == whole(TreeManager.replay(CONFIG, None, run.segments))
    assert (restored.next_segment, restored.damaged) == (10, None)
    assert restored.num_events == sum(segment.count(b"\n") for segment in run.segments[8:])
    rest = Journalled(run_dir, restored.manager, seed=9).run()
    assert run.digests + rest.digests == Journalled(run_dir_like(run_dir), TreeManager(CONFIG)).run().digests


def run_dir_like(run_dir):
    return RunDir.create(f"{run_dir.location}-alone", CONFIG, {})


def spoil(run_dir, name):
    data = bytearray(run_dir.read_bytes(name))
    data[len(data) // 2] ^= 1
    run_dir.write_bytes(name, bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda run_dir: spoil(run_dir, "tree/snapshot-2/state.arrow"),
        lambda run_dir: run_dir.write_bytes("tree/snapshot-2/state.arrow", b""),
        lambda run_dir: run_dir.delete("tree/snapshot-2/state.arrow"),
        lambda run_dir: run_dir.write_bytes("tree/snapshot-2/COMMIT", b"{}"),
        lambda run_dir: run_dir.write_bytes("tree/snapshot-2/COMMIT", b"half of a li"),
        lambda run_dir: spoil(run_dir, "tree/segment-00000011"),
        lambda run_dir: run_dir.delete("tree/segment-00000011"),
    ],
)
def test_a_snapshot_that_cannot_be_used_is_skipped_with_a_warning(run_dir, damage, caplog):
    run = Journalled(run_dir, TreeManager(CONFIG), snapshots=(1, 2)).run()
    assert run.next_segment == 12
    damage(run_dir)
    journal = [data for _, data in Segments(run_dir).read_segments().segments]
    with caplog.at_level(logging.WARNING):
        restored = restore(CONFIG, None, run_dir)
    assert "tree/snapshot-2 is skipped" in caplog.text and "snapshot-1" not in caplog.text
    assert restored.next_segment == len(journal)
    assert whole(restored.manager) == whole(TreeManager.replay(CONFIG, None, journal))


def test_without_any_snapshot_that_can_be_used_the_journal_is_enough(run_dir, caplog):
    run = Journalled(run_dir, TreeManager(CONFIG), snapshots=(0, 1)).run()
    spoil(run_dir, "tree/snapshot-0/state.arrow")
    spoil(run_dir, "tree/snapshot-1/state.arrow")
    restored = restore(CONFIG, None, run_dir)
    assert restored.manager.digest() == run.digests[-1] and caplog.text.count("is skipped") == 2


def test_a_snapshot_of_another_history_is_not_believed(run_dir, caplog):
    """The journal's end was lost and written again otherwise: what the old snapshot knows never happened."""
    Journalled(run_dir, TreeManager(CONFIG), snapshots=(2,)).run()
    for number in (10, 11):
        run_dir.delete(f"tree/segment-{number:08d}")
    again = Journalled(
        run_dir, TreeManager.replay(CONFIG, None, [d for _, d in Segments(run_dir).read_segments().segments])
    )
    again.num_names = 3  # the models answer otherwise
    again.run()
    restored = restore(CONFIG, None, run_dir)
    assert "differs from that of the snapshot" in caplog.text
    assert restored.manager.digest() == again.digests[-1]
    store = TreeSnapshots(run_dir)
    store.write(1, restored.manager.copy_state(), restored.next_segment, again.segments[-1])
    assert store.rounds() == [1], "one of a later round is of the journal that was lost"


def test_the_newest_two_are_kept_and_what_is_half_written_goes(run_dir):
    Journalled(run_dir, TreeManager(CONFIG), snapshots=(0, 1, 2)).run()
    store = TreeSnapshots(run_dir)
    assert store.rounds() == [1, 2]
    run_dir.delete("tree/snapshot-1/COMMIT")
    assert store.rounds() == [2]
    store.clean()
    assert [name for name in run_dir.names("tree") if "snapshot" in name] == ["snapshot-2"]


def test_a_full_disk_costs_the_snapshot_and_nothing_else(run_dir, monkeypatch, caplog):
    def full(copy, sink):
        sink.write(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    run = Journalled(run_dir, TreeManager(CONFIG)).run()
    monkeypatch.setattr(tree_snapshots.snapshot, "write", full)
    writer = SnapshotWriter(run_dir, num_events=1000, min_events=10)
    writer.round_closed(run.manager, 2, run.next_segment, run.segments[-1])
    writer.wait(20)
    assert "No space left" in caplog.text and "journal is sufficient" in caplog.text
    assert not [name for name in run_dir.names("tree") if "snapshot" in name]
    assert restore(CONFIG, None, run_dir).manager.digest() == run.digests[-1]


def test_a_snapshot_is_written_when_enough_events_came(run_dir):
    run = Journalled(run_dir, TreeManager(CONFIG)).run()
    writer, store = SnapshotWriter(run_dir, num_events=0, min_events=100), TreeSnapshots(run_dir)

    def close(round):
        writer.round_closed(run.manager, round, run.next_segment, run.segments[-1])
        writer.wait(20)

    writer.journalled(b"event\n" * 99)
    close(0)
    assert store.rounds() == []
    writer.journalled(b"event\n")
    close(1)
    assert store.rounds() == [1]
    close(2)
    assert store.rounds() == [1], "the count begins anew"
    restored = restore(CONFIG, None, run_dir)
    assert whole(restored.manager) == whole(run.manager) and restored.num_events == 0


def test_a_large_tree_needs_more_events_for_a_snapshot(run_dir, monkeypatch):
    run = Journalled(run_dir, TreeManager(CONFIG)).run()
    num_nodes = run.manager.tree.num_nodes
    writer = SnapshotWriter(run_dir, num_events=num_nodes // 4 - 1, min_events=1)
    writer.round_closed(run.manager, 0, run.next_segment, run.segments[-1])
    writer.journalled(b"event\n")
    writer.round_closed(run.manager, 1, run.next_segment, run.segments[-1])
    writer.wait(20)
    assert TreeSnapshots(run_dir).rounds() == [1]
