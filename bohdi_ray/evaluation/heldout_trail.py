"""Which of a run's versions has the lowest held-out loss, round by round. Pure; kept by the run's ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class HeldoutTrail:
    """Held-out losses per row over the versions, compared in pairs on the rows that both versions have.

    Later rounds have other held-out rows, so means over all rows cannot be compared; the rows two versions share can.
    Where a version shares too few with the best one, it is compared with the version before it, and the differences
    since the best one are added up: each is over nearly all rows, since few rows change from one round to the next.
    """

    best_version: int = 0
    best: dict[str, tuple[float, int]] = field(default_factory=dict)  # its (loss, tokens) by sample id
    rounds_without_gain: int = 0
    last: dict[str, tuple[float, int]] = field(default_factory=dict)  # the newest version's
    behind: float = 0.0  # how much higher the newest version's loss is than the best one's

    def add(self, version: int, rows: dict[str, tuple[float, int]]) -> None:
        """Adds the losses of a new version; a loss below that of the best version so far is a gain."""
        if not rows:
            return
        behind = self._behind(rows)
        gained = behind is None or behind < 0
        if gained:
            self.best_version, self.best, self.rounds_without_gain = version, rows, 0
        else:
            self.rounds_without_gain += 1
        self.last, self.behind = rows, 0.0 if gained or behind is None else behind

    def _behind(self, rows: dict[str, tuple[float, int]]) -> float | None:
        """How much higher this loss is than the best version's; None if they cannot be compared."""
        shared, common = self.best.keys() & rows.keys(), self.last.keys() & rows.keys()
        if shared and (2 * len(shared) >= len(rows) or not common):
            return _mean(rows, shared) - _mean(self.best, shared)
        return self.behind + _mean(rows, common) - _mean(self.last, common) if common else None


def _mean(rows: dict[str, tuple[float, int]], keys: Any) -> float:
    return sum(rows[key][0] for key in keys) / max(1, sum(rows[key][1] for key in keys))
