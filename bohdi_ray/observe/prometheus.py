"""Exports a run's metrics to Prometheus through Ray's metrics agents. The only module that uses Ray's metrics.

Ray drops a gauge that is not set for about half a minute. So this keeps the current values and sets them again every
few seconds (`keep_refreshed`). Gauges that are removed here disappear from Prometheus too, and so do all once the run
has ended.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import Any

from bohdi_ray.names import ascii_label
from bohdi_ray.observe.metric_names import RUN, MetricSpec

REFRESH_EVERY_S = 5.0

Key = tuple[MetricSpec, tuple[str, ...]]  # a metric, and the values of its labels


class Exported:
    """Counters and gauges of one run. If Ray does not run in this process, nothing is exported and nothing else
    happens."""

    def __init__(self, run_name: str, make: Callable[[MetricSpec], Any] | None = None):
        self._run_name = run_name
        self._make = make or _ray_metric
        self._metrics: dict[MetricSpec, Any] = {}
        self._gauges: dict[Key, float] = {}
        self._totals: dict[Key, dict[str, float]] = {}

    def count(self, spec: MetricSpec, number: float = 1, **labels: str) -> None:
        """Increase a counter. Zero changes nothing."""
        assert spec.kind == "counter"
        if number > 0 and (metric := self._metric(spec)) is not None:
            metric.inc(number, tags=self._tags(spec, _values(spec, labels)))

    def count_to(self, spec: MetricSpec, total: float, part: str = "", **labels: str) -> None:
        """Increase a counter by the growth of `total` since the last call; a lower total means that its `part`
        restarted."""
        known = self._totals.setdefault((spec, _values(spec, labels)), {})
        before = known.get(part, 0.0)
        known[part] = total
        self.count(spec, total - before if total >= before else total, **labels)

    def begin_at(self, spec: MetricSpec, total: float, part: str = "", **labels: str) -> None:
        """Sets the value from which `count_to` continues: the total before this driver."""
        self._totals.setdefault((spec, _values(spec, labels)), {})[part] = total

    def set(self, spec: MetricSpec, value: float | None, **labels: str) -> None:
        """Sets a gauge; None or a value that is not finite removes it."""
        assert spec.kind == "gauge"
        key = spec, _values(spec, labels)
        if value is None or not math.isfinite(value):
            self._gauges.pop(key, None)
        else:
            self._gauges[key] = float(value)

    def clear(self, *specs: MetricSpec) -> None:
        """Removes these gauges, whatever their labels."""
        for key in [key for key in self._gauges if key[0] in specs]:
            del self._gauges[key]

    def gauges(self) -> dict[tuple[str, ...], float]:
        """The current values, by name and values of the labels."""
        return {(spec.name, *values): value for (spec, values), value in self._gauges.items()}

    def refresh(self) -> None:
        """Sets all current values in Ray again."""
        for (spec, values), value in self._gauges.items():
            if (metric := self._metric(spec)) is not None:
                metric.set(value, tags=self._tags(spec, values))

    async def keep_refreshed(self) -> None:
        """Keeps the values known to Ray, until cancelled."""
        while True:
            self.refresh()
            await asyncio.sleep(REFRESH_EVERY_S)

    def _metric(self, spec: MetricSpec) -> Any:
        if spec not in self._metrics and (metric := self._make(spec)) is not None:
            self._metrics[spec] = metric
        return self._metrics.get(spec)

    def _tags(self, spec: MetricSpec, values: tuple[str, ...]) -> dict[str, str]:
        labels = {RUN: self._run_name, **dict(zip(spec.labels, values, strict=True))}
        return {name: ascii_label(value) for name, value in labels.items()}  # Ray encodes them as ASCII


def _values(spec: MetricSpec, labels: dict[str, str]) -> tuple[str, ...]:
    assert set(labels) <= set(spec.labels), f"{spec.name} has the labels {spec.labels}, got {sorted(labels)}"
    return tuple(labels.get(label, "") for label in spec.labels)


def _ray_metric(spec: MetricSpec) -> Any:
    """Ray's own counter or gauge; None if Ray does not run here."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from ray.util import metrics

    kind = metrics.Counter if spec.kind == "counter" else metrics.Gauge
    return kind(spec.name, spec.help, spec.tag_keys)
