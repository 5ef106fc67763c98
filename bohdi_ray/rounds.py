"""Decides which round may harvest or train next with which weights, when a run ends, which checkpoints may go.

Pure: `RunLedger` is what the main loop knows and decides by; driver/ledger.py restores and saves it. It does not depend
on anything that only observes a run (console, metrics, trackers).

Symbols: round r counts from 0; weights version v is the target after v Enlightenments; k is `harvest.max_staleness`.
Round r harvests with exactly version max(0, r - k), so r may start once round r - 1 is closed and round r - 1 - k is
trained. Training takes closed rounds in order. With k = 0 the two alternate; with k = 1 round r + 1 is harvested while
round r is trained; at most k closed rounds ever wait for their training beside the one being harvested.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bohdi_ray.config import FusionConfig, OpenAIModel, StopConfig
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.evaluation.heldout_trail import HeldoutTrail
from bohdi_ray.observe.intervals import Intervals
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.run.retention import checkpoints_to_delete
from bohdi_ray.run.state import DriverState, TrainedRound, best_scored

SHORTEST_S = 0.01  # a phase that took less is none
OPTIONAL = ("rehearsal", "evaluation")  # phases that not every run has


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
        """Records that round `round` is harvested and its rows are drawn and queued."""
        assert round == self.num_closed, (round, self)
        self.num_closed += 1

    def trained(self, round: int) -> None:
        """Records that round `round` is trained and its weights, version round + 1, are committed."""
        assert round == self.num_trained < self.num_closed, (round, self)
        self.num_trained += 1

    def stop(self, reason: str) -> None:
        """Ends harvesting; closed rounds are still trained. The first reason is kept."""
        self.stop_reason = self.stop_reason or reason

    @property
    def done(self) -> bool:
        """Whether nothing remains to harvest or to train."""
        return self.stop_reason is not None and self.num_trained == self.num_closed

    def versions_in_use(self) -> set[int]:
        """Versions that must stay on disk: 0, and those that a harvest may still need, trained already or not."""
        oldest = harvest_version(self.num_closed, self.max_staleness)
        return {0, *range(oldest, self.num_closed + 1)}


@dataclass(frozen=True, slots=True)
class Progress:
    """The figures that the stop rules use, at the end of a round. Costs in the currency of the sources' prices."""

    rounds: int
    samples: int
    decoded_tokens: int
    wall_time_s: float
    cost: float
    rounds_without_gain: int


def stop_reason(stop: StopConfig, progress: Progress) -> str | None:
    """The first stop rule that holds, as text, or None."""
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


class RunLedger:
    """The results of a run so far, over all drivers; the main loop decides by them."""

    def __init__(
        self,
        config: FusionConfig,
        started: float,
        state: DriverState | None = None,
        rounds: Sequence[RoundSummary] = (),  # that are harvested
        newest_version: int = 0,  # of the weights that are committed
    ):
        """`started`: when this driver started, Unix time, s. The other arguments: what earlier drivers left."""
        state = state or DriverState()
        self.config = config
        self.num_drivers = state.num_drivers  # before this one
        self.schedule = Rounds(config.harvest.max_staleness, len(rounds), state.num_trained)
        self.rounds = list(rounds)
        self.intervals = Intervals()
        self._driver_started, self._newest_version = started, newest_version
        self._started = started - state.wall_time_s  # the time between drivers does not count
        for phase, spans in state.spans.items():
            for start, end in spans:
                self.intervals.record(phase, self._zero + start, self._zero + end)
        self._heldout = HeldoutTrail(
            state.best_version, state.best_rows, state.rounds_without_gain, state.last_rows, state.behind_best
        )
        asked = config.evaluate
        self._evaluated_on = repr((asked.tasks, asked.limit, asked.num_fewshot, asked.chat))
        self.evaluated = dict(state.evaluated) if state.evaluated_on == self._evaluated_on else {}  # means by version
        # The last seen counters, by replica; a replaced one keeps what it cost.
        self._engines: dict[str, EngineStats] = dict(state.engines)

    # What has happened.

    def add_start_up(self) -> float:
        """Records that all engines and the trainer are up. Returns how long this took, s."""
        seconds = time.time() - self._driver_started
        self.intervals.record("start_up", time.monotonic() - seconds, time.monotonic())
        return seconds

    def add_engines(self, stats: Mapping[str, EngineStats]) -> None:
        """Records the counters of this driver's engines, by replica."""
        self._engines.update({f"{self.num_drivers}/{name}": counters for name, counters in stats.items()})

    def add_harvested(self, summary: RoundSummary, started: float, finished: float) -> None:
        """Records that a round is harvested and its rows are drawn and queued. Times on the monotonic clock, s."""
        self.schedule.closed(summary.round)
        self.intervals.record("harvest", started, finished)
        self.rounds.append(summary)

    def add_rows(self, round: int, num_rows: int, rehearsal_tokens: int) -> None:
        """Records the rows of a round that an earlier driver harvested."""
        summary = self.rounds[round]
        tokens = summary.tokens | {"rehearsal": rehearsal_tokens}
        self.rounds[round] = replace(summary, training_rows=num_rows, tokens=tokens)

    def add_trained(self, metrics: Mapping[str, Any]) -> RoundSummary:
        """Records that the next round is trained; `metrics` as in training.round_metrics. Returns its figures."""
        round = self.schedule.num_trained
        if self.config.training.starts_stage(round):
            self._heldout = HeldoutTrail()  # versions are compared within a stage
        losses = ((key, float(loss), int(n)) for key, (loss, n) in metrics.get("heldout_rows", {}).items())
        self._heldout.add(round + 1, {key: (loss, n) for key, loss, n in losses if math.isfinite(loss)})
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
        self.schedule.trained(round)
        return self.rounds[round]

    def add_evaluated(self, version: int, mean: float, extra_s: float) -> None:
        """Records a version's mean score over the tasks; `extra_s`: how long the run waited for it alone."""
        self.evaluated[version] = mean
        now = time.monotonic()
        if extra_s > SHORTEST_S:
            self.intervals.record("evaluation", now - extra_s, now)

    # What follows from it.

    def check_stop_rules(self, num_left: int | None = None) -> None:
        """Ends harvesting once a stop rule holds, or a corpus has no row left; `num_left`: None without a corpus."""
        if num_left == 0:
            self.schedule.stop("every row was drawn (questions.epochs)")
        if reason := stop_reason(self.config.stop, self.progress()):
            self.schedule.stop(reason)

    def progress(self) -> Progress:
        """The figures that the stop rules use."""
        return Progress(
            rounds=len(self.rounds),
            samples=sum(round.accepted for round in self.rounds),
            decoded_tokens=sum(sum(round.tokens.values()) for round in self.rounds),
            wall_time_s=time.time() - self._started,
            cost=self.cost,
            rounds_without_gain=self._heldout.rounds_without_gain,
        )

    @property
    def cost(self) -> float:
        """What the remote sources' tokens cost so far, in the currency of their prices."""
        total = 0.0
        for stats in self._engines.values():
            model = self.config.model(stats.name)
            if isinstance(model, OpenAIModel):
                total += stats.num_prompt_tokens * model.price_per_million_prompt_tokens / 1e6
                total += stats.num_decoded_tokens * model.price_per_million_output_tokens / 1e6
        return total

    @property
    def best_version(self) -> int | None:
        """The best version so far, by the scores if `evaluate.chooses_best`, else by the held-out loss; None while
        nothing is measured."""
        if self.config.evaluate.chooses_best:
            return best_scored(self.config, self.evaluated, self.schedule.num_trained)
        return self._heldout.best_version if self._heldout.best else None

    @property
    def may_delete_checkpoints(self) -> bool:
        """Whether this driver has recorded all rounds that were trained; before that the best version is not known."""
        return self.schedule.num_trained >= self._newest_version

    def checkpoints_to_delete(self, committed: Collection[int], with_optimizer: Collection[int]) -> list[int]:
        """Rounds whose checkpoints are not needed; `with_optimizer`: rounds with a complete optimizer state."""
        keep, in_use = self.config.training.keep_checkpoints, self.schedule.versions_in_use()
        return checkpoints_to_delete(committed, keep, in_use, self.best_version, with_optimizer)

    def state(self) -> DriverState:
        """The state that a later driver needs."""
        return DriverState(
            wall_time_s=time.time() - self._started,
            num_drivers=self.num_drivers + 1,
            trained={
                r.round: TrainedRound(r.training_loss, r.heldout_loss, r.seconds["training"], r.rejected_rows)
                for r in self.rounds
                if "training" in r.seconds
            },
            harvest_s={r.round: r.seconds["harvest"] for r in self.rounds},
            spans=self.intervals.spans(since=self._zero),
            best_version=self._heldout.best_version,
            best_rows=self._heldout.best,
            rounds_without_gain=self._heldout.rounds_without_gain,
            last_rows=self._heldout.last,
            behind_best=self._heldout.behind,
            engines=self._engines,
            evaluated=self.evaluated,
            evaluated_on=self._evaluated_on,
        )

    def seconds(self) -> dict[str, float]:
        """Seconds by phase. Phases may overlap; `overlap`: harvest and training. `loop`: from first harvest to last
        commit."""
        names, both = ("start_up", "harvest", *OPTIONAL, "training", "weights", "finish"), ("harvest", "training")
        phases = {name: seconds for name in names if (seconds := self.intervals.total(name)) or name not in OPTIONAL}
        return {
            **phases,
            "overlap": self.intervals.overlap(*both),
            "loop": self.intervals.last_end(*both) - self.intervals.first_start(*both),
            "total": time.time() - self._started,
        }

    @property
    def _zero(self) -> float:
        """The start of the run on the monotonic clock, without the time between drivers."""
        return time.monotonic() - (time.time() - self._started)
