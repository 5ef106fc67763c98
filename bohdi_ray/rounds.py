"""Which round may harvest or train next, with which weights, and when a run is over. Pure; owned by the driver.

Symbols: round r counts from 0; weights version v is the target after v Enlightenments; k is `harvest.max_staleness`.
Round r harvests with exactly version max(0, r - k), so r may start once round r - 1 is closed and round r - 1 - k is
trained. Training takes closed rounds in order. With k = 0 the two alternate; with k = 1 round r + 1 is harvested while
round r is trained; at most k closed rounds ever wait for their training beside the one being harvested.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.config import StopConfig


def harvest_version(round: int, max_staleness: int) -> int:
    """The weights version that round `round` harvests with."""
    return max(0, round - max_staleness)


@dataclass(slots=True)
class Rounds:
    """Progress of both sides: `num_closed` rounds are harvested and drawn, `num_trained` of them are committed."""

    max_staleness: int
    num_closed: int = 0
    num_trained: int = 0
    stop_reason: str | None = None

    def next_harvest(self) -> int | None:
        """The round to harvest now; None while its weights are not trained yet, or after a stop."""
        if self.stop_reason is not None:
            return None
        waits_for = harvest_version(self.num_closed, self.max_staleness)
        return self.num_closed if self.num_trained >= waits_for else None

    def closed(self, round: int) -> None:
        """Round `round` is harvested, its rows are drawn and queued."""
        assert round == self.num_closed, (round, self)
        self.num_closed += 1

    def trained(self, round: int) -> None:
        """Round `round` is trained and its weights, version round + 1, are committed."""
        assert round == self.num_trained < self.num_closed, (round, self)
        self.num_trained += 1

    def stop(self, reason: str) -> None:
        """No further harvest; what is closed is still trained. The first reason stays."""
        self.stop_reason = self.stop_reason or reason

    @property
    def done(self) -> bool:
        """Nothing is left to harvest or to train."""
        return self.stop_reason is not None and self.num_trained == self.num_closed

    def versions_in_use(self) -> set[int]:
        """Versions that must stay on disk: 0, and those a harvest may still ask for, trained already or not."""
        oldest = harvest_version(self.num_closed, self.max_staleness)
        return {0, *range(oldest, self.num_closed + 1)}


@dataclass(frozen=True, slots=True)
class Progress:
    """What the stop rules look at, at the end of a round. Costs in the currency of the sources' prices."""

    rounds: int
    samples: int
    decoded_tokens: int
    wall_time_s: float
    cost: float
    rounds_without_gain: int


def stop_reason(stop: StopConfig, progress: Progress) -> str | None:
    """The first stop rule that holds, in words, or None."""
    limits = (
        ("rounds", progress.rounds, stop.rounds),
        ("samples", progress.samples, stop.samples),
        ("decoded_tokens", progress.decoded_tokens, stop.decoded_tokens),
        ("wall_time_s", progress.wall_time_s, stop.wall_time_s),
        ("cost", progress.cost, stop.cost),
        ("no_gain_rounds", progress.rounds_without_gain, stop.no_gain_rounds),
    )
    for name, reached, limit in limits:
        if limit is not None and reached >= limit:
            return f"stop.{name} = {limit:g}" if isinstance(limit, float) else f"stop.{name} = {limit}"
    return None


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
        """Takes the losses of a new version; a lower loss than the best version's is a gain."""
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
        """How much higher this loss is than the best version's; None if nothing can be compared."""
        shared, common = self.best.keys() & rows.keys(), self.last.keys() & rows.keys()
        if shared and (2 * len(shared) >= len(rows) or not common):
            return _mean(rows, shared) - _mean(self.best, shared)
        return self.behind + _mean(rows, common) - _mean(self.last, common) if common else None


def _mean(rows: dict[str, tuple[float, int]], keys: Any) -> float:
    return sum(rows[key][0] for key in keys) / max(1, sum(rows[key][1] for key in keys))
