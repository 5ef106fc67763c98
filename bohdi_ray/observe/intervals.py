"""Time spans of the phases of a run, and the overlap of two phases. Pure."""

from __future__ import annotations

Spans = list[tuple[float, float]]


class Intervals:
    """Time spans by phase, s on any one clock. Spans of one phase may overlap; overlapping time counts once."""

    def __init__(self) -> None:
        self._spans: dict[str, Spans] = {}

    def record(self, phase: str, start: float, end: float) -> None:
        """Add one span. `end` must not be before `start`."""
        assert end >= start, f"{phase} ends at {end}, before it starts at {start}"
        self._spans.setdefault(phase, []).append((start, end))

    def spans(self, since: float) -> dict[str, Spans]:
        """All spans by phase, in seconds after `since`."""
        return {phase: [(a - since, b - since) for a, b in spans] for phase, spans in self._spans.items()}

    def total(self, phase: str) -> float:
        """Seconds in which `phase` was active; 0 if it never was."""
        return _length(_union(self._spans.get(phase, [])))

    def first_start(self, *phases: str) -> float:
        """When the first of these phases began; 0 if none did."""
        return min((start for phase in phases for start, _ in self._spans.get(phase, [])), default=0.0)

    def last_end(self, *phases: str) -> float:
        """When the last of these phases ended; 0 if none did."""
        return max((end for phase in phases for _, end in self._spans.get(phase, [])), default=0.0)

    def overlap(self, first: str, second: str) -> float:
        """Seconds in which both phases were active."""
        a, b = _union(self._spans.get(first, [])), _union(self._spans.get(second, []))
        return _length(a) + _length(b) - _length(_union(a + b))

    def overlap_share(self, first: str, second: str) -> float | None:
        """Overlap as a share of the shorter phase: 1 means that it ran entirely during the other. None if one never
        ran."""
        shorter = min(self.total(first), self.total(second))
        return self.overlap(first, second) / shorter if shorter > 0 else None


def _union(spans: Spans) -> Spans:
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _length(spans: Spans) -> float:
    return sum(end - start for start, end in spans)
