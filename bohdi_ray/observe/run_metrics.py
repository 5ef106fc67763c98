"""RunMetrics: turns the events of a run into the metrics of metric_names.py, for Prometheus. It queries nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import singledispatchmethod

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.observe import events
from bohdi_ray.observe import metric_names as names
from bohdi_ray.observe.prometheus import Exported
from bohdi_ray.observe.rolling_rates import DomainShares, IdleRatios

log = logging.getLogger(__name__)

_OF_ENGINES = (names.REPLICAS_WANTED, names.REPLICAS_UP, names.IN_FLIGHT, names.WAITING, names.ENGINE_IDLE)
_OF_COMPONENTS = (*_OF_ENGINES, names.SOURCES_LEFT_OUT, names.QUEUE_ROWS, names.QUEUE_STEPS, names.TICKETS_IN_FLIGHT)


class RunMetrics:
    """One per driver."""

    def __init__(self, run_name: str, exported: Exported | None = None, clock: Callable[[], float] = time.monotonic):
        self.exported = exported or Exported(run_name)
        self._idle = IdleRatios(clock)
        self._domains = DomainShares()
        self._engines: dict[str, EngineStats] = {}
        self._queue: events.QueueFigures | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.exported.set(names.UP, 1)

    def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()

    @singledispatchmethod
    def tell(self, event: events.Event) -> None:
        """Other events change no metric."""

    @tell.register
    def _(self, event: events.RunOpened) -> None:
        self._refreshing = asyncio.ensure_future(self.exported.keep_refreshed())
        self._refreshing.add_done_callback(_warn_of_failure)

    @tell.register
    def _(self, event: events.TreeRestored) -> None:
        self.exported.begin_at(names.SPROUTS, event.tree["num_sprouts"], result="child")
        self.exported.begin_at(names.SPROUTS, event.tree["num_failed_sprouts"], result="failed")

    @tell.register
    def _(self, event: events.RoundBegan) -> None:
        self._idle.harvest_is(busy=True)
        self.exported.set(names.ROUND, event.round)
        self.exported.set(names.WEIGHTS_VERSION, event.weights_version)
        self.exported.set(names.STALENESS, event.round - event.weights_version)

    @tell.register
    def _(self, event: events.HarvestMoved) -> None:
        out = self.exported
        splits, reasons = Counter[str](), Counter[str]()
        for domain, outcome in event.new_outcomes:
            if outcome.failure is not None:
                reasons[outcome.failure] += 1
            else:
                splits["heldout" if outcome.heldout else "train"] += 1
                self._domains.add(domain, outcome.reward or 0)
        for split, number in splits.items():
            out.count(names.ACCEPTED, number, split=split)
        for reason, number in reasons.items():
            out.count(names.REJECTED, number, reason=reason)
        for name, number in event.new_tokens.items():
            role, _, model = name.partition("/")
            out.count(names.TOKENS, number, role=role, model=model)
        out.set(names.TICKETS_IN_FLIGHT, event.num_tickets_issued - event.num_tickets_done)

    @tell.register
    def _(self, event: events.RoundHarvested) -> None:
        self._idle.harvest_is(busy=False)
        self.exported.set(names.TICKETS_IN_FLIGHT, 0)
        self.exported.count(names.REBIRTHS, len(event.reborn))
        self.exported.set(names.COST, event.cost)
        for reason, number in event.new_abandoned.items():
            self.exported.count(names.ABANDONED, number, reason=reason)

    @tell.register
    def _(self, event: events.WeightsServed) -> None:
        self.exported.set(names.WEIGHT_SYNC, event.seconds)
        self.exported.count(names.WEIGHT_SYNCS)

    @tell.register
    def _(self, event: events.VersionEvaluated) -> None:
        for task, score in list(event.scores.items())[: names.MOST_TASKS]:
            self.exported.set(names.EVALUATION_SCORE, score, task=one_line(task))

    @tell.register
    def _(self, event: events.TurnSwitched) -> None:
        self.exported.set(names.TURN_SWITCH, event.seconds, to=event.to)

    @tell.register
    def _(self, event: events.RoundTrained) -> None:
        out, metrics = self.exported, event.metrics
        out.count(names.TRAINED_ROWS, metrics.get("num_rows", 0))
        for reason, number in metrics.get("rejected_rows", {}).items():
            out.count(names.REJECTED_ROWS, number, reason=reason)
        out.count(names.TRAINED_TOKENS, metrics.get("num_tokens", 0))
        out.set(names.TRAINING_LOSS, metrics.get("loss"))
        out.set(names.TRAINING_SPEED, metrics.get("tokens_per_s"))
        out.set(names.HELDOUT_LOSS, metrics.get("heldout_loss"))

    @tell.register
    def _(self, event: events.Notice) -> None:
        if event.kind in names.FAILURE_KINDS:
            self._count_failure(event.kind, str(event.fields.get("model", "")))

    @tell.register
    def _(self, event: events.ComponentsPolled) -> None:
        out = self.exported
        out.clear(*_OF_ENGINES, names.REWARD_RATE, names.DOMAIN_SAMPLES)
        for domain, share in self._domains.shares().items():
            out.set(names.REWARD_RATE, share.reward_rate, domain=one_line(domain))
            out.set(names.DOMAIN_SAMPLES, share.num_samples, domain=one_line(domain))
        for model, (wanted, up) in event.replicas.items():
            out.set(names.REPLICAS_WANTED, wanted, model=model)
            out.set(names.REPLICAS_UP, up, model=model)
        out.set(names.SOURCES_LEFT_OUT, len(event.sources_left_out))
        out.count_to(names.FAILURES, event.num_replaced, kind="engine_replaced")
        self._set_engines(event.engines)
        if event.queue is not None:
            self._set_queue(event.queue)
        if event.tree is not None:
            out.count_to(names.SPROUTS, event.tree["num_sprouts"], result="child")
            out.count_to(names.SPROUTS, event.tree["num_failed_sprouts"], result="failed")
        for level, number in enumerate(event.domains_by_level or (), start=1):
            out.set(names.DOMAINS, number, level=str(level))
        out.set(names.HARVEST_IDLE, self._idle.harvest.idle_ratio())
        out.set(names.TRAINING_IDLE, self._idle.training.idle_ratio())

    @tell.register
    def _(self, event: events.PollingEnded) -> None:
        self.exported.clear(*_OF_COMPONENTS)

    def _count_failure(self, kind: str, model: str = "") -> None:
        """Counts a failure that was repaired or set aside."""
        self.exported.count(names.FAILURES, kind=kind, model=model)

    def _set_engines(self, engines: Mapping[str, EngineStats]) -> None:
        by_model: dict[str, list[tuple[str, EngineStats]]] = {}
        for replica, stats in engines.items():
            by_model.setdefault(stats.name, []).append((replica, stats))
        out = self.exported
        for model, replicas in by_model.items():
            out.set(names.IN_FLIGHT, sum(stats.num_in_flight for _, stats in replicas), model=model)
            out.set(names.WAITING, sum(stats.num_waiting for _, stats in replicas), model=model)
            for replica, stats in replicas:
                out.count_to(names.REQUESTS, stats.num_served, replica, model=model)
                out.count_to(names.QUEUE_WAIT, stats.waited_s, replica, model=model)
                out.count_to(names.PROMPT_TOKENS, stats.num_prompt_tokens, replica, model=model)
            idle, up = (sum(times) for times in zip(*(self._since_poll(*one) for one in replicas), strict=True))
            out.set(names.ENGINE_IDLE, idle / up if up > 0 else None, model=model)
        self._engines = dict(engines)

    def _since_poll(self, replica: str, stats: EngineStats) -> tuple[float, float]:
        """Seconds idle and seconds up since the last poll of this replica, or since its start."""
        before = self._engines.get(replica)
        idle, up = (before.idle_s, before.uptime_s) if before else (0.0, 0.0)
        return max(0.0, stats.idle_s - idle), max(0.0, stats.uptime_s - up)

    def _set_queue(self, queue: events.QueueFigures) -> None:
        out, before = self.exported, self._queue
        out.set(names.QUEUE_ROWS, queue.num_rows)
        out.set(names.QUEUE_STEPS, queue.num_steps)
        out.set(names.TRAINED_VERSION, queue.committed_version)
        self._idle.queue_is(queue)
        if before is not None and queue.incarnation != before.incarnation:
            self._count_failure("queue_restarted")
        elif before is not None and before.attempt > 0:
            out.count(names.FAILURES, queue.attempt - before.attempt, kind="trainer_restarted")
        self._queue = queue


def _warn_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("the run's metrics are not exported any more", exc_info=error)
