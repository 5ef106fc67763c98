"""RunProgress: the driver's book-keeping of a run, and the one place that tells people about it.

Fed by fusion.py with what happened; feeds the console, metrics.jsonl, the stop rules and the summary. It decides
nothing and reaches nobody: everything it knows was handed to it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.changes import Change
from bohdi_ray.driver.harvest_round import HarvestResult
from bohdi_ray.driver.reached import progress_of, restored_rounds
from bohdi_ray.driver.resume import RecoveredState
from bohdi_ray.driver.round_figures import (
    HarvestNews,
    abandoned_since,
    cost,
    round_record,
    round_summary,
)
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.rehearsal_store import RehearsalCounts
from bohdi_ray.names import run_name
from bohdi_ray.observe import round_lines
from bohdi_ray.observe.console import Console, RoundProgress
from bohdi_ray.observe.intervals import Intervals
from bohdi_ray.observe.metric_names import FAILURE_KINDS
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.observe.run_metrics import RunMetrics, TelemetryReading
from bohdi_ray.observe.source_report import silent, troubled
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.observe.trackers.opening import open_trackers
from bohdi_ray.rounds import HeldoutTrail, Progress
from bohdi_ray.run.lease import Claim
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.state import DriverState, TrainedRound, write_state
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.record.history import RoundRecord

RECORD_LOOK_EVERY_S = 60.0  # how often metrics.jsonl says what the parts of the run were doing


class RunProgress:
    """One per run; a context manager that gives terminal and files back."""

    def __init__(self, config: FusionConfig, run: RunDir, started: float, claim: Claim | None = None):
        self.config, self.run, self._claim = config, run, claim
        self.started = self._driver_started = started  # Unix time, s; `restore` moves the first back
        self.intervals = Intervals()
        self.console = Console(config.observe.console)
        self.metrics = Metrics(run, open_trackers(config, run, self.console.warning))
        self.live = RunMetrics(run_name(run.location))
        self.rounds: list[RoundSummary] = []
        self.heldout = HeldoutTrail()
        self.stop_reason: str | None = None
        self._engines: dict[str, EngineStats] = {}  # the last seen, by replica; a replaced one keeps what it cost
        self._num_drivers = 0  # before this one
        self._before: RoundRecord | None = None  # the round under way, as far as earlier drivers came
        self._restored = False
        self._news = HarvestNews()
        self._rehearsal_tokens: dict[int, int] = {}  # by round
        self._recorded_look = -math.inf  # time.monotonic(), s
        self._learned: set[str] = set()  # of remote sources, as it was told

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *trace: object) -> None:
        if self._restored:
            with contextlib.suppress(RunDirError):  # somebody else's by now
                self.save()
                why = None if kind is None else f"{kind.__name__}: {error}"
                self.metrics.log("ended", error=why, stop_reason=self.stop_reason)
        self.metrics.close()
        self.console.close()

    def restore(self, recovered: RecoveredState) -> None:
        """Takes in what earlier drivers left; call it once, before anything happens. The time between drivers does not
        count."""
        state, self._before, self._restored = recovered.state, recovered.open, True
        self.started -= state.wall_time_s
        self._num_drivers = state.num_drivers
        for phase, spans in state.spans.items():
            for start, end in spans:
                self.intervals.record(phase, self._zero + start, self._zero + end)
        self.rounds = restored_rounds(self.run, self.config, recovered.closed, state)
        self.heldout = HeldoutTrail(
            state.best_version, state.best_rows, state.rounds_without_gain, state.last_rows, state.behind_best
        )
        self._engines = dict(state.engines)
        self.save()  # that there was this driver counts from now on

    def save(self) -> None:
        """RUN/progress.json. Raises RunDirError when the run is somebody else's by now."""
        if self._claim is not None:
            self._claim.check()
        trained = [r for r in self.rounds if "training" in r.seconds]
        state = DriverState(
            wall_time_s=time.time() - self.started,
            num_drivers=self._num_drivers + 1,
            trained={r.round: _trained(r) for r in trained},
            harvest_s={r.round: r.seconds["harvest"] for r in self.rounds},
            spans=self.intervals.spans(since=self._zero),
            best_version=self.heldout.best_version,
            best_rows=self.heldout.best,
            rounds_without_gain=self.heldout.rounds_without_gain,
            last_rows=self.heldout.last,
            behind_best=self.heldout.behind,
            engines=self._engines,
        )
        write_state(self.run, state)
        self.metrics.flush()  # an object store gets the figures of this boundary now

    @property
    def _zero(self) -> float:
        """When the run began, on the monotonic clock, times between drivers taken out."""
        return time.monotonic() - (time.time() - self.started)

    @property
    def best_version(self) -> int | None:
        """The version with the lowest held-out loss so far; None while nothing is held out."""
        return self.heldout.best_version if self.heldout.best else None

    def message(self, text: str) -> None:
        """A line for the person who watches."""
        self.console.message(text)

    def _say(self, text: str, alarming: bool) -> None:
        (self.console.warning if alarming else self.console.message)(text)

    def on_notice(self, kind: str, text: str, **fields: Any) -> None:
        """Something a person should not miss, as a source that is left out."""
        self.console.warning(text)
        self.metrics.log(kind, **fields)
        if kind in FAILURE_KINDS:
            self.live.failed(kind, str(fields.get("model", "")))

    def on_started(self) -> None:
        """Everything is up."""
        seconds = time.time() - self._driver_started
        self.intervals.record("start_up", time.monotonic() - seconds, time.monotonic())
        self.metrics.log("start_up", seconds=seconds)
        self.message(f"all engines and the trainer are up after {seconds:.0f} s")

    def on_resumed(self, recovered: RecoveredState, changed: Sequence[Change]) -> None:
        """A run is gone on with."""
        harvested = f"{len(recovered.closed)} round{'s' * (len(recovered.closed) != 1)} harvested"
        if recovered.open and recovered.open.tickets:  # it may also be one that will never begin
            harvested += f", round {recovered.open.round} under way with {recovered.open.tickets} tickets done"
        version = recovered.newest_version
        self.message(f"resuming {self.run.location}: {harvested}; newest weights version {version}")
        if recovered.damaged is not None:
            self.on_notice(
                "journal_damaged", f"the end of the journal was lost: {recovered.damaged}", damaged=recovered.damaged
            )
        for change in changed:
            self.message(f"changed: {change}")
        self.metrics.log(
            "resumed",
            driver=self._num_drivers + 1,
            rounds_closed=len(recovered.closed),
            weights_version=recovered.newest_version,
            changes=[str(change) for change in changed],
        )

    @property
    def is_resumed(self) -> bool:
        """Whether there was a driver before this one."""
        return self._num_drivers > 0

    def on_look(self, look: TelemetryReading) -> None:
        """The parts of the run were looked at."""
        self.live.looked(look)
        for stats in look.engines.values():
            for text in stats.learned:
                if text not in self._learned:
                    self._learned.add(text)
                    self.on_notice("source_dialect", text, model=stats.name, learned=text)
        if time.monotonic() - self._recorded_look >= RECORD_LOOK_EVERY_S:
            self._recorded_look = time.monotonic()
            self.metrics.log("look", **self.live.record())

    def on_round(self, round: int, version: int) -> None:
        """A round's harvest begins, with this version of the target."""
        self.live.began(round, version, round - version)

    def on_harvest(self, harvest: HarvestResult) -> None:
        """A harvest under way has moved."""
        self._tell(harvest)
        rewards = [o.reward for o in harvest.outcomes if o.failure is None and o.reward is not None]
        seconds = time.monotonic() - harvest.started
        self.console.progress(
            RoundProgress(
                round=harvest.round,
                phase="harvest",
                tickets_done=harvest.num_tickets_done,
                tickets_issued=harvest.num_tickets_issued,
                accepted=harvest.num_accepted,
                reward_rate=sum(rewards) / len(rewards) if rewards else None,
                tokens_per_s=harvest.num_tokens / seconds if seconds > 1 and harvest.num_tokens else None,
                heldout_loss=self.rounds[-1].heldout_loss if self.rounds else None,
            )
        )

    def _tell(self, harvest: HarvestResult) -> None:
        outcomes, tokens = self._news.since_last(harvest)
        self.live.committed(outcomes, tokens, harvest.num_tickets_issued - harvest.num_tickets_done)

    def on_weights(self, started: float, version: int, reports: list[Any]) -> None:
        """The target's engines serve `version` since now; nothing to tell if they did before."""
        if not reports:
            return
        self.intervals.record("weights", started, time.monotonic())
        seconds = time.monotonic() - started
        self.live.synced(seconds)
        self.metrics.log("weights", version=version, seconds=seconds, reports=[_plain(r) for r in reports])
        self.message(f"the target's engines serve weights version {version}, proved, after {seconds:.1f} s")

    def on_rehearsal(self, round: int, figures: RehearsalCounts, started: float) -> None:
        """Version 0 of the target was asked for a round's rehearsal, since `started` on the monotonic clock."""
        seconds = time.monotonic() - started
        self.intervals.record("rehearsal", started, started + seconds)
        self._rehearsal_tokens[round] = figures.num_tokens
        self.metrics.log("rehearsal", round=round, seconds=seconds, counts=figures.counts, tokens=figures.num_tokens)
        kept, asked = figures.counts.get("kept", 0), sum(figures.counts.values())
        self.message(f"round {round}: version 0 is sure of {kept} of {asked} questions for rehearsal, {seconds:.0f} s")

    def on_handed_over(self, round: int, num_rows: int, seconds: float) -> None:
        """The trainer's queue has a round's rows."""
        self.metrics.log("hand_over", round=round, rows=num_rows, seconds=seconds)

    def on_queued(self, round: int, num_rows: int) -> None:
        """A round that an earlier driver closed has all its rows."""
        summary = self.rounds[round]
        tokens = summary.tokens | {"rehearsal": self._rehearsal_tokens.get(round, 0)}
        self.rounds[round] = replace(summary, training_rows=num_rows, tokens=tokens)

    def on_closed(self, harvest: HarvestResult, closed: RoundClosed, num_rows: int) -> None:
        """A round is harvested and its rows are queued."""
        self._tell(harvest)
        self.live.closed(len(closed.reborn), self.reached().cost, abandoned_since(harvest, self._before))
        self._recorded_look = -math.inf  # the next look belongs to the round's end
        self.intervals.record("harvest", harvest.started, harvest.finished)
        summary = round_summary(harvest, num_rows, self._before, self._rehearsal_tokens.get(harvest.round, 0))
        self._before = None
        self.rounds.append(summary)
        self.metrics.log("round", **round_record(summary, harvest, closed))
        self._say(round_lines.harvested(summary), alarming=not summary.accepted)
        self.save()
        self._tell_of_sources(summary)

    def _tell_of_sources(self, summary: RoundSummary) -> None:
        """Whom a round has lost, and why: a source that gave nothing is no small matter."""
        for source, text in silent(summary.sources).items():
            self.on_notice("source_silent", f"round {summary.round}: {text}", model=source, round=summary.round)
        for text in troubled(summary.sources):
            self.message(f"round {summary.round}: {text}")

    def on_trained(self, round: int, metrics: dict[str, Any]) -> None:
        """The trainer has committed `round`."""
        losses = ((key, float(loss), int(n)) for key, (loss, n) in metrics.get("heldout_rows", {}).items())
        self.heldout.add(round + 1, {key: (loss, n) for key, loss, n in losses if math.isfinite(loss)})
        # The trainer's clock says when it worked; the news may have waited for the end of a harvest.
        seconds = sum(s for part, s in metrics.get("seconds", {}).items() if part != "waiting")
        if "committed_at" in metrics:
            # Of a round that an earlier driver's trainer committed, nothing but the news belongs to this one's time.
            end = max(metrics["committed_at"], self._driver_started) + time.monotonic() - time.time()
            self.intervals.record("training", end - seconds, end)
        self.rounds[round] = replace(
            self.rounds[round],
            training_loss=metrics.get("loss"),
            heldout_loss=metrics.get("heldout_loss"),
            rejected_rows=dict(metrics.get("rejected_rows", {})),
            seconds={**self.rounds[round].seconds, "training": seconds},
        )
        self.live.trained(metrics)
        self.metrics.log("training", round=round, **{k: v for k, v in metrics.items() if k != "heldout_rows"})
        summary = self.rounds[round]
        self._say(
            round_lines.trained(summary, metrics), alarming=bool(summary.rejected_rows or not summary.trained_rows)
        )
        self.save()

    def on_engines(self, stats: dict[str, EngineStats], num_replaced: int) -> None:
        """Counters of the engines by replica, at the end of a round, and how many were replaced so far."""
        self._engines.update({f"{self._num_drivers}/{name}": counters for name, counters in stats.items()})
        spent = cost(self.config, self._engines.values())
        replicas = {name: _plain(s) for name, s in stats.items()}
        self.metrics.log("engines", cost=spent, num_replaced=num_replaced, replicas=replicas)

    def reached(self) -> Progress:
        """What the stop rules look at."""
        spent = cost(self.config, self._engines.values())
        return progress_of(self.rounds, time.time() - self.started, spent, self.heldout.rounds_without_gain)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase; phases may overlap, `overlap` says how long harvest and training did."""
        names = ("start_up", "harvest", "rehearsal", "training", "weights", "finish")
        phases = {name: seconds for name in names if (seconds := self.intervals.total(name)) or name != "rehearsal"}
        return {
            **phases,
            "overlap": self.intervals.overlap("harvest", "training"),
            "loop": self.loop_s(),
            "total": time.time() - self.started,
        }

    def loop_s(self) -> float:
        """From the start of the first harvest to the last commit, s."""
        both = ("harvest", "training")
        return self.intervals.last_end(*both) - self.intervals.first_start(*both)


def _trained(round: RoundSummary) -> TrainedRound:
    return TrainedRound(round.training_loss, round.heldout_loss, round.seconds["training"], round.rejected_rows)


def _plain(record: Any) -> Any:
    return asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
