"""Which held-out rows are measured after a round: a bounded number, those whose sample ids have the lowest hashes.

A row's hash depends on the run's seed and its id alone. So the subset is a uniform random sample of all held-out
samples so far. Rebuilding it gives the same rows, and a new sample either replaces one row or changes nothing. Pure;
kept by the driver (driver/training_feed.py).
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable


class HeldoutSubset:
    """The ids of the subset. Memory is proportional to `size`, not to the number of samples seen."""

    def __init__(self, size: int, seed: int):
        self._size, self._seed = size, seed
        self._kept: list[tuple[bytes, str]] = []  # lowest first

    def add(self, sample_ids: Iterable[str]) -> None:
        """Adds further held-out samples; one that was added before changes nothing."""
        for sample_id in sample_ids:
            entry = hashlib.blake2b(f"{self._seed}/{sample_id}".encode(), digest_size=8).digest(), sample_id
            place = bisect.bisect_left(self._kept, entry)
            if place < self._size and self._kept[place : place + 1] != [entry]:
                self._kept.insert(place, entry)
                del self._kept[self._size :]

    def ids(self) -> list[str]:
        """The ids in ascending order, which is the order of rounds."""
        return sorted(sample_id for _, sample_id in self._kept)
