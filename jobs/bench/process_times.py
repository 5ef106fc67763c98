"""CPU time by kind of process, of a driver and the Ray that it started on this machine: part of `elastic.py`."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# The first that a command line contains names the kind. Ray shows a worker as `ray::CLASS.method` or `ray::function`.
KINDS = {
    "ray::TreeManagerActor": "tree_manager",
    "ray::EngineHost": "engines",
    "ray::": "tasks",
    "": "ray",
}


class ProcessTimes:
    """Counts from its making on. A process that has ended since is not counted."""

    def __init__(self) -> None:
        self._began = now()

    def since(self) -> dict[str, float]:
        """Seconds of CPU by kind, the driver's among them."""
        times: Counter[str] = Counter()
        for pid, (kind, seconds) in now().items():
            times[kind] += seconds - self._began.get(pid, ("", 0.0))[1]
        return dict(times)


def now() -> dict[int, tuple[str, float]]:
    """Kind and seconds of CPU so far by process id, of this process and all below it."""
    parents, times = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        kind = next(kind for word, kind in KINDS.items() if word in command)
        times[pid] = kind, (int(fields[11]) + int(fields[12])) / TICKS
    own = os.getpid()
    found = {own: ("driver", time.process_time())}
    for pid in parents:
        above = pid
        while above not in (0, own):
            above = parents.get(above, 0)
        if above == own and pid != own:
            found[pid] = times[pid]
    return found
