"""The knowledge tree at 10 x 100 x 1,000 leaves with ten samples each, added one by one: `tree.py --scale`.

- rss_gb: resident memory of the process then; peak_rss_gb: the most over everything below, reading the snapshot's bytes
  included; bytes_per_leaf and bytes_per_sample: growth of resident memory;
- snapshot_pause_s: how long the manager pauses for a snapshot; snapshot_write_s: until its file is whole while the
  manager commits without a break; snapshot_write_alone_s: the same while it does nothing; commit_s_while_writing: the
  longest commit meanwhile; restore_s: from the file to the manager;
- commit_s: a step of 30 credited tickets, screened, journalled, digest included, median; sprout_s: at 1,000 children;
- longest_gc_pause_s: the longest collection of cyclic garbage in all this; full_gc_s: a full one, forced.
"""

from __future__ import annotations

import gc
import itertools
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tree import add_samples, config, draws_per_s, sprouts_s, valid_names

from bohdi_ray.records import Outcome
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import snapshot

SCALE = (10, 100, 1000)


def commits(manager: TreeManager) -> Iterator[float]:
    """Seconds of one commit after another, each of a round of one step of 30 tickets; does not end."""
    while True:
        tickets = manager.work(0).tickets
        outcomes = [Outcome(t.ticket_id, reward=t.index % 2, question_hash=t.ticket_id) for t in tickets]
        start = time.perf_counter()
        manager.commit_step(0, manager.screen(0, outcomes), "part")
        manager.take_segment()
        manager.digest()
        yield time.perf_counter() - start
        manager.close_round(tickets[0].round + 1, tickets[0].round + 1)
        manager.take_segment()


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(call, *arguments):
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def write_while_working(manager: TreeManager, path: str) -> dict[str, float]:
    """A snapshot as a run writes it: copied, then written in a thread beside further commits."""
    pause_s, copied = timed(manager.copy_state)
    written: list[float] = []
    writer = threading.Thread(target=lambda: written.append(timed(snapshot.write, copied, path)[0]))
    steps, longest = commits(manager), 0.0
    writer.start()
    while writer.is_alive():
        longest = max(longest, next(steps))
    writer.join()
    steps.close()
    alone_s, _ = timed(snapshot.write, copied, path)
    return {
        "snapshot_write_alone_s": alone_s,
        "snapshot_pause_s": pause_s,
        "snapshot_write_s": written[0],
        "commit_s_while_writing": longest,
    }


def big_tree(manager: TreeManager, shape: tuple[int, ...]) -> None:
    """Grows `shape` below the root, without a list of starting domains, whose memory would blur the figures."""
    names, level = valid_names(), [manager.tree.root]
    for size in shape:
        level = [c for node in level for c in manager.tree.add_all(node, list(itertools.islice(names, size)))]
    manager.tree.start_step()


def scale(shape: tuple[int, ...]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return measured(f"{folder}/state.arrow", shape)


def measured(path: str, shape: tuple[int, ...]) -> dict[str, float]:
    pauses: list[float] = []
    started = [0.0]

    def collecting(phase: str, info: dict) -> None:
        if phase == "start":
            started[0] = time.perf_counter()
        else:
            pauses.append(time.perf_counter() - started[0])

    gc.callbacks.append(collecting)
    empty = rss()
    manager = TreeManager(config(30, shape))
    big_tree(manager, shape)
    manager.digest()
    sizes = [rss() - empty]
    add_samples(manager.tree)
    manager.digest()
    sizes.append(rss() - empty)
    longest = max(pauses)
    num_leaves, num_samples = manager.tree.num_leaves, manager.tree.root.num_samples
    figures = {
        "num_leaves": num_leaves,
        "num_samples": num_samples,
        "rss_gb": rss() / 1e9,
        "bytes_per_leaf": sizes[0] / num_leaves,
        "bytes_per_sample": (sizes[1] - sizes[0]) / num_samples,
        "full_gc_s": timed(gc.collect)[0],
        "draws_per_s": draws_per_s(manager),
        "commit_s": statistics.median(itertools.islice(commits(manager), 30)),
        "sprout_s": sprouts_s(manager, 200),
    }
    manager.close_round(manager.stats()["round"] + 1, 0)
    figures |= write_while_working(manager, path)
    longest = max(longest, *pauses)
    del manager
    gc.collect()
    figures["snapshot_bytes"] = os.path.getsize(path)
    figures["restore_s"], manager = timed(lambda: TreeManager.restore(config(10_000, shape), Path(path).read_bytes()))
    walks_s, work = timed(manager.work, 0)
    gc.callbacks.remove(collecting)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures |= {"walks_per_s": len(work.tickets) / walks_s, "longest_gc_pause_s": longest, "peak_rss_gb": peak / 1e9}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}
