"""RunMetrics: what the driver knows of a run, as the metrics of metric_names.py. It decides nothing and asks nobody.

Fed by `RunProgress` with events (a step committed, a round trained), and every few seconds with a `TelemetryReading` at
the parts of the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.observe import metric_names as names
from bohdi_ray.observe.prometheus import Exported
from bohdi_ray.observe.rolling_rates import BusyTime, DomainShares
from bohdi_ray.records import Outcome

_OF_ENGINES = (names.REPLICAS_WANTED, names.REPLICAS_UP, names.IN_FLIGHT, names.WAITING, names.ENGINE_IDLE)
_OF_PARTS = (*_OF_ENGINES, names.SOURCES_LEFT_OUT, names.QUEUE_ROWS, names.QUEUE_STEPS, names.TICKETS_IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class QueueReading:
    """The trainer's queue at one moment."""

    num_rows: int  # drawn and not trained on
    num_steps: int  # put and not done
    busy: bool  # the trainer has a step to work on
    committed_version: int
    attempt: int  # start of the worker group
    incarnation: str  # another one after a restart of the queue


@dataclass(frozen=True, slots=True)
class TelemetryReading:
    """The parts of a run at one moment. None, or missing: could not be seen."""

    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # wanted and up, by model
    engines: Mapping[str, EngineStats] = field(default_factory=dict)  # by replica
    num_replaced: int = 0  # engines, since the driver's start
    sources_left_out: tuple[str, ...] = ()
    queue: QueueReading | None = None
    tree: Mapping[str, Any] | None = None  # as TreeManager.stats
    domains_by_level: tuple[int, ...] | None = None


class RunMetrics:
    """One per driver."""

    def __init__(self, run_name: str, exported: Exported | None = None, clock: Callable[[], float] = time.monotonic):
        self.exported = exported or Exported(run_name)
        self.harvest, self.training = BusyTime(clock), BusyTime(clock)
        self.last_look: TelemetryReading | None = None
        self._domains = DomainShares()
        self._engines: dict[str, EngineStats] = {}
        self._trainer: QueueReading | None = None
        self.exported.set(names.UP, 1)

    def began(self, round: int, version: int, staleness: int) -> None:
        """A round's harvest begins."""
        self.harvest.tell(True)
        self.exported.set(names.ROUND, round)
        self.exported.set(names.WEIGHTS_VERSION, version)
        self.exported.set(names.STALENESS, staleness)

    def committed(self, outcomes: Iterable[tuple[str, Outcome]], tokens: Mapping[str, int], in_flight: int) -> None:
        """New outcomes with their main domains; tokens decoded since the last call, by "role/model"."""
        out = self.exported
        splits, reasons = Counter[str](), Counter[str]()
        for domain, outcome in outcomes:
            if outcome.failure is not None:
                reasons[outcome.failure] += 1
            else:
                splits["heldout" if outcome.heldout else "train"] += 1
                self._domains.add(domain, outcome.reward or 0)
        for split, number in splits.items():
            out.count(names.ACCEPTED, number, split=split)
        for reason, number in reasons.items():
            out.count(names.REJECTED, number, reason=reason)
        for name, number in tokens.items():
            role, _, model = name.partition("/")
            out.count(names.TOKENS, number, role=role, model=model)
        out.set(names.TICKETS_IN_FLIGHT, in_flight)

    def closed(self, num_reborn: int, cost: float, abandoned: Mapping[str, int] | None = None) -> None:
        """A round is harvested; `abandoned`: its walks without a domain, by reason."""
        self.harvest.tell(False)
        self.exported.count(names.REBIRTHS, num_reborn)
        self.exported.set(names.COST, cost)
        for reason, number in (abandoned or {}).items():
            self.exported.count(names.ABANDONED, number, reason=reason)

    def synced(self, seconds: float) -> None:
        """The target's engines have changed to other weights."""
        self.exported.set(names.WEIGHT_SYNC, seconds)
        self.exported.count(names.WEIGHT_SYNCS)

    def turned(self, to: str, seconds: float) -> None:
        """With `placement: colocate`: the cards are this side's now, harvest or training."""
        self.exported.set(names.TURN_SWITCH, seconds, to=to)

    def trained(self, metrics: Mapping[str, Any]) -> None:
        """A round is trained; `metrics` as of training.tally."""
        out = self.exported
        out.count(names.TRAINED_ROWS, metrics.get("num_rows", 0))
        for reason, number in metrics.get("rejected_rows", {}).items():
            out.count(names.REJECTED_ROWS, number, reason=reason)
        out.count(names.TRAINED_TOKENS, metrics.get("num_tokens", 0))
        out.set(names.TRAINING_LOSS, metrics.get("loss"))
        out.set(names.TRAINING_SPEED, metrics.get("tokens_per_s"))
        out.set(names.HELDOUT_LOSS, metrics.get("heldout_loss"))

    def failed(self, kind: str, model: str = "") -> None:
        """Something broke and was mended, or set aside."""
        self.exported.count(names.FAILURES, kind=kind, model=model)

    def looked(self, look: TelemetryReading) -> None:
        """The parts of the run as they are now."""
        self.last_look, out = look, self.exported
        out.clear(*_OF_ENGINES, names.REWARD_RATE, names.DOMAIN_SAMPLES)
        for domain, share in self._domains.shares().items():
            out.set(names.REWARD_RATE, share.reward_rate, domain=one_line(domain))
            out.set(names.DOMAIN_SAMPLES, share.num_samples, domain=one_line(domain))
        for model, (wanted, up) in look.replicas.items():
            out.set(names.REPLICAS_WANTED, wanted, model=model)
            out.set(names.REPLICAS_UP, up, model=model)
        out.set(names.SOURCES_LEFT_OUT, len(look.sources_left_out))
        out.count_to(names.FAILURES, look.num_replaced, kind="engine_replaced")
        self._look_at_engines(look.engines)
        if look.queue is not None:
            self._look_at_queue(look.queue)
        if look.tree is not None:
            out.count_to(names.SPROUTS, look.tree["num_sprouts"], result="child")
            out.count_to(names.SPROUTS, look.tree["num_failed_sprouts"], result="failed")
        for level, number in enumerate(look.domains_by_level or (), start=1):
            out.set(names.DOMAINS, number, level=str(level))
        out.set(names.HARVEST_IDLE, self.harvest.idle_ratio())
        out.set(names.TRAINING_IDLE, self.training.idle_ratio())

    def goes_on(self, tree: Mapping[str, Any]) -> None:
        """What the tree held before this driver; counters count from here."""
        self.exported.begin_at(names.SPROUTS, tree["num_sprouts"], result="child")
        self.exported.begin_at(names.SPROUTS, tree["num_failed_sprouts"], result="failed")

    def record(self) -> dict[str, Any]:
        """The last look as plain figures."""
        look = self.last_look or TelemetryReading()
        in_flight: dict[str, int] = {}
        for stats in look.engines.values():
            in_flight[stats.name] = in_flight.get(stats.name, 0) + stats.num_in_flight + stats.num_waiting
        return {
            "harvest_idle": self.harvest.idle_ratio(),
            "training_idle": self.training.idle_ratio(),
            "replicas": {model: {"wanted": wanted, "up": up} for model, (wanted, up) in look.replicas.items()},
            "requests": in_flight,
            "sources_left_out": list(look.sources_left_out),
            "queue_rows": look.queue.num_rows if look.queue else None,
            "queue_steps": look.queue.num_steps if look.queue else None,
            "committed_version": look.queue.committed_version if look.queue else None,
        }

    def ends(self) -> None:
        """The parts of the run are going: what was seen of them is not true any more."""
        self.exported.clear(*_OF_PARTS)

    def _look_at_engines(self, engines: Mapping[str, EngineStats]) -> None:
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
            idle, up = (sum(times) for times in zip(*(self._since_look(*one) for one in replicas), strict=True))
            out.set(names.ENGINE_IDLE, idle / up if up > 0 else None, model=model)
        self._engines = dict(engines)

    def _since_look(self, replica: str, stats: EngineStats) -> tuple[float, float]:
        """Seconds idle and up since the last look at this replica, or its start."""
        before = self._engines.get(replica)
        idle, up = (before.idle_s, before.uptime_s) if before else (0.0, 0.0)
        return max(0.0, stats.idle_s - idle), max(0.0, stats.uptime_s - up)

    def _look_at_queue(self, queue: QueueReading) -> None:
        out, before = self.exported, self._trainer
        out.set(names.QUEUE_ROWS, queue.num_rows)
        out.set(names.QUEUE_STEPS, queue.num_steps)
        out.set(names.TRAINED_VERSION, queue.committed_version)
        self.training.tell(queue.busy)
        if before is not None and queue.incarnation != before.incarnation:
            self.failed("queue_restarted")
        elif before is not None and before.attempt > 0:
            out.count(names.FAILURES, queue.attempt - before.attempt, kind="trainer_restarted")
        self._trainer = queue
