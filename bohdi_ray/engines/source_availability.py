"""Which sources are available at the moment. Pure; kept by the driver's pools, which start and watch the engines.

A source that stays down is skipped as long as enough others are available. Meanwhile it gives no answers, no votes for
names and no judgements, and asks no questions. Work that was using it starts again without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bohdi_ray.config import JUDGES, FusionConfig
from bohdi_ray.errors import EngineFailed


class SourceAvailability:
    """Sources by name, in the configuration's order."""

    def __init__(self, sources: tuple[str, ...], min_sources: int):
        self._sources, self._min_sources = sources, min_sources
        self._left_out: dict[str, str] = {}  # why, by source

    @property
    def present(self) -> tuple[str, ...]:
        """The available sources."""
        return tuple(source for source in self._sources if source not in self._left_out)

    def leave_out(self, source: str, why: str) -> bool:
        """Marks a source as unavailable; returns whether it was available before. Raises EngineFailed if fewer than
        `min_sources` would remain."""
        news = source not in self._left_out
        self._left_out[source] = why
        if len(self.present) < self._min_sources:
            down = "; ".join(f"{name}: {reason}" for name, reason in self._left_out.items())
            left = f"{len(self.present)} of {len(self._sources)} sources are left"
            lower = ", or lower harvest.min_sources" if self._min_sources > 1 else ""
            comparing = ", ".join(kind for kind, judge in JUDGES.items() if judge.needs_two)
            # The cause first: that too few are left only follows from it.
            raise EngineFailed(
                f"{source}: {why}. So {left}, and the run needs {self._min_sources} (harvest.min_sources; two with "
                f"judge.kind {comparing}). Fix what is down and continue with `bohdi resume`{lower}. "
                f"Sources that are down: {down}"
            )
        return news

    def take_back(self, source: str) -> bool:
        """Marks a source as available again; returns whether it was unavailable."""
        return self._left_out.pop(source, None) is not None


def least_sources(config: FusionConfig) -> int:
    """The least number of sources that a run needs; two if answers of several sources are compared."""
    return max(config.harvest.min_sources, 2 if config.judge.needs_two else 1)


def pauses(first_s: float, longest_s: float) -> Iterator[float]:
    """Seconds between attempts: each twice the one before, up to the longest."""
    return (min(longest_s, first_s * 2**i) for i in itertools.count())
