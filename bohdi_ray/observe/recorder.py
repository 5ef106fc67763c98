"""MetricsRecorder: writes the events of a run as records of metrics.jsonl and of the trackers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from functools import singledispatchmethod
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.observe import events
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.observe.rolling_rates import IdleRatios
from bohdi_ray.observe.source_report import silent
from bohdi_ray.observe.trackers.opening import open_trackers
from bohdi_ray.run.run_dir import RunDir

log = logging.getLogger(__name__)

RECORD_POLL_EVERY_S = 60.0  # how often metrics.jsonl says what the components of the run were doing
_OF_THE_SUMMARY = (
    *("round", "weights_version", "tickets", "accepted", "heldout", "rewards", "reward_rate", "failures"),
    *("abandoned", "tokens"),
)


class MetricsRecorder:
    """`bohdi status` and others read the kinds of records and their fields, so these must not change."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic):
        self._metrics, self._clock = metrics, clock
        self._idle = IdleRatios(clock)
        self._recorded_poll = -math.inf  # on the clock, s

    @classmethod
    def of(cls, config: FusionConfig, run: RunDir) -> MetricsRecorder:
        """A recorder with the trackers that the configuration asks for."""
        return cls(Metrics(run, open_trackers(config, run, log.warning)))

    def close(self) -> None:
        self._metrics.close()

    @singledispatchmethod
    def tell(self, event: events.Event) -> None:
        """Other events are not recorded."""

    @tell.register
    def _(self, event: events.Notice) -> None:
        self._metrics.log(event.kind, **event.fields)

    @tell.register
    def _(self, event: events.Resumed) -> None:
        if event.damaged is not None:
            self._metrics.log("journal_damaged", damaged=event.damaged)
        self._metrics.log(
            "resumed",
            driver=event.driver,
            rounds_closed=event.num_closed,
            weights_version=event.weights_version,
            changes=list(event.changes),
        )

    @tell.register
    def _(self, event: events.Started) -> None:
        self._metrics.log("start_up", seconds=event.seconds)

    @tell.register
    def _(self, event: events.RoundBegan) -> None:
        self._idle.harvest_is(busy=True)

    @tell.register
    def _(self, event: events.WeightsServed) -> None:
        reports = [_plain(report) for report in event.reports]
        self._metrics.log("weights", version=event.version, seconds=event.seconds, reports=reports)

    @tell.register
    def _(self, event: events.RehearsalAsked) -> None:
        figures = {"seconds": event.seconds, "counts": event.counts, "tokens": event.num_tokens}
        self._metrics.log("rehearsal", round=event.round, rounds=event.num_rounds, **figures)

    @tell.register
    def _(self, event: events.VersionEvaluated) -> None:
        figures = {"seconds": event.seconds, "extra_s": event.extra_s, "tokens": event.num_tokens}
        self._metrics.log("evaluation", version=event.version, scores=dict(event.scores), **figures)

    @tell.register
    def _(self, event: events.TurnSwitched) -> None:
        self._metrics.log("turn", to=event.to, seconds=event.seconds)

    @tell.register
    def _(self, event: events.RowsHandedOver) -> None:
        self._metrics.log("hand_over", round=event.round, rows=event.num_rows, seconds=event.seconds)

    @tell.register
    def _(self, event: events.EnginesCounted) -> None:
        replicas = {name: _plain(stats) for name, stats in event.replicas.items()}
        self._metrics.log("engines", cost=event.cost, num_replaced=event.num_replaced, replicas=replicas)

    @tell.register
    def _(self, event: events.RoundHarvested) -> None:
        summary = event.summary
        self._idle.harvest_is(busy=False)
        self._recorded_poll = -math.inf  # the next poll belongs to the round's end
        self._metrics.log(
            "round",
            **{name: getattr(summary, name) for name in _OF_THE_SUMMARY},
            seconds=summary.seconds["harvest"],
            requests=dict(event.requests),
            sources={source: asdict(counts) for source, counts in summary.sources.items()},
            elections_asked=event.num_elections_asked,
            invalid_names=event.num_invalid_names,
            unsupported_names=event.num_unsupported_names,
            reborn=[asdict(reborn) for reborn in event.reborn],
        )
        for source in silent(summary.sources):
            self._metrics.log("source_silent", model=source, round=summary.round)
        self._metrics.flush()  # an object store gets the figures of this boundary now

    @tell.register
    def _(self, event: events.RoundTrained) -> None:
        fields = {name: value for name, value in event.metrics.items() if name != "heldout_rows"}
        self._metrics.log("training", round=event.summary.round, **fields)
        self._metrics.flush()

    @tell.register
    def _(self, event: events.ComponentsPolled) -> None:
        self._idle.queue_is(event.queue)
        if self._clock() - self._recorded_poll >= RECORD_POLL_EVERY_S:
            self._recorded_poll = self._clock()
            self._metrics.log("look", **self._poll_record(event))

    @tell.register
    def _(self, event: events.Summarized) -> None:
        figures = {name: value for name, value in event.summary.to_json().items() if name not in ("rounds", "paths")}
        self._metrics.log("summary", **figures)

    @tell.register
    def _(self, event: events.Ended) -> None:
        self._metrics.log("ended", error=event.error, stop_reason=event.stop_reason)

    def _poll_record(self, poll: events.ComponentsPolled) -> dict[str, Any]:
        requests: dict[str, int] = {}
        for stats in poll.engines.values():
            requests[stats.name] = requests.get(stats.name, 0) + stats.num_in_flight + stats.num_waiting
        return {
            "harvest_idle": self._idle.harvest.idle_ratio(),
            "training_idle": self._idle.training.idle_ratio(),
            "replicas": {model: {"wanted": wanted, "up": up} for model, (wanted, up) in poll.replicas.items()},
            "requests": requests,
            "sources_left_out": list(poll.sources_left_out),
            "queue_rows": poll.queue.num_rows if poll.queue else None,
            "queue_steps": poll.queue.num_steps if poll.queue else None,
            "committed_version": poll.queue.committed_version if poll.queue else None,
        }


def _plain(record: Any) -> Any:
    return asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
