"""Which held-out rows are measured after a round: a bounded number, those whose sample ids have the lowest hashes.

A row's hash depends on the run's seed and its id alone. So the subset is a fair draw from all held-out samples so far,
the same however often it is made anew, and a new sample either takes the place of one row or changes nothing. Pure;
kept by the driver (driver/training_feed.py).
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable


class HeldoutSubset:
    """The ids of the subset. Takes memory for `size` of them, however many it has seen."""

    def __init__(self, size: int, seed: int):
        self._size, self._seed = size, seed
        self._kept: list[tuple[bytes, str]] = []  # lowest first

    def add(self, sample_ids: Iterable[str]) -> None:
        """Takes in further held-out samples; one that it has seen before changes nothing."""
        for sample_id in sample_ids:
            entry = hashlib.blake2b(f"{self._seed}/{sample_id}".encode(), digest_size=8).digest(), sample_id
            place = bisect.bisect_left(self._kept, entry)
            if place < self._size and self._kept[place : place + 1] != [entry]:
                self._kept.insert(place, entry)
                del self._kept[self._size :]

    def ids(self) -> list[str]:
        """In order of the ids, which is that of rounds."""
        return sorted(sample_id for _, sample_id in self._kept)
