"""ConsoleObserver: shows the events of a run on the console."""

from __future__ import annotations

from functools import singledispatchmethod

from bohdi_ray.observe import events
from bohdi_ray.observe.console import round_lines
from bohdi_ray.observe.console.view import Console, Mode, RoundProgress
from bohdi_ray.observe.source_report import silent, troubled

SHOWN_SCORES = 4  # tasks of an evaluation


class ConsoleObserver:
    """Shows events as lines, a live view, and a table at the end."""

    def __init__(self, mode: Mode):
        self._console = Console(mode)
        self._heldout_loss: float | None = None  # of the newest round that is harvested

    def close(self) -> None:
        self._console.close()

    @singledispatchmethod
    def tell(self, event: events.Event) -> None:
        """Other events are not shown."""

    @tell.register
    def _(self, event: events.Message) -> None:
        self._console.message(event.text)

    @tell.register
    def _(self, event: events.Notice) -> None:
        self._console.warning(event.text)

    @tell.register
    def _(self, event: events.Resumed) -> None:
        harvested = f"{event.num_closed} round{'s' * (event.num_closed != 1)} harvested"
        if event.open_round is not None:
            harvested += f", round {event.open_round} under way with {event.num_open_tickets} tickets done"
        version = event.weights_version
        self._console.message(f"resuming {event.location}: {harvested}; newest weights version {version}")
        if event.damaged is not None:
            self._console.warning(f"the end of the journal was lost: {event.damaged}")
        for change in event.changes:
            self._console.message(f"changed: {change}")

    @tell.register
    def _(self, event: events.Started) -> None:
        self._console.message(f"all engines and the trainer are up after {event.seconds:.0f} s")

    @tell.register
    def _(self, event: events.RoundBegan) -> None:
        self._heldout_loss = event.heldout_loss

    @tell.register
    def _(self, event: events.HarvestMoved) -> None:
        self._console.progress(
            RoundProgress(
                round=event.round,
                phase="harvest",
                tickets_done=event.num_tickets_done,
                tickets_issued=event.num_tickets_issued,
                accepted=event.num_accepted,
                reward_rate=event.reward_rate,
                tokens_per_s=event.tokens_per_s,
                heldout_loss=self._heldout_loss,
            )
        )

    @tell.register
    def _(self, event: events.WeightsServed) -> None:
        self._console.message(
            f"the target's engines serve weights version {event.version}, proved, after {event.seconds:.1f} s"
        )

    @tell.register
    def _(self, event: events.RehearsalAsked) -> None:
        kept, asked = event.counts.get("kept", 0), sum(event.counts.values())
        rounds = f" of {event.num_rounds} rounds" if event.num_rounds > 1 else ""
        self._console.message(
            f"round {event.round}: version 0 is sure of {kept} of {asked} questions for rehearsal{rounds}, "
            f"{event.seconds:.0f} s"
        )

    @tell.register
    def _(self, event: events.VersionEvaluated) -> None:
        scores = ", ".join(f"{task} {score:.3f}" for task, score in list(event.scores.items())[:SHOWN_SCORES])
        more = f" and {len(event.scores) - SHOWN_SCORES} more" if len(event.scores) > SHOWN_SCORES else ""
        spent = f"{event.seconds:.0f} s, of which {event.extra_s:.0f} s beyond the wait for the trainer"
        self._console.message(f"version {event.version}: {scores}{more}; {spent}")

    @tell.register
    def _(self, event: events.RoundHarvested) -> None:
        summary = event.summary
        self._say(round_lines.harvested(summary), alarming=not summary.accepted)
        for text in silent(summary.sources).values():
            self._console.warning(f"round {summary.round}: {text}")
        for text in troubled(summary.sources):
            self._console.message(f"round {summary.round}: {text}")

    @tell.register
    def _(self, event: events.RoundTrained) -> None:
        summary = event.summary
        alarming = bool(summary.rejected_rows or not summary.trained_rows)
        self._say(round_lines.trained(summary, event.metrics), alarming)

    @tell.register
    def _(self, event: events.Summarized) -> None:
        self._console.table(event.summary)

    def _say(self, text: str, alarming: bool) -> None:
        (self._console.warning if alarming else self._console.message)(text)
