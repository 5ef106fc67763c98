"""The console output of a running fusion: a live view on a terminal, plain lines otherwise, always on stderr.

Owns the process's log and warning output while it is open, so that lines do not tear the live view. It shows no text
from models or errors before control characters and markup are made harmless.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Literal

import rich.console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bohdi_ray.languages.terminal_text import message, one_line
from bohdi_ray.observe.console.summary_table import as_table, as_text
from bohdi_ray.observe.summary import Summary

Mode = Literal["auto", "live", "lines", "quiet"]
LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class RoundProgress:
    """The progress of the run. None: not known yet."""

    round: int
    phase: str  # for example "harvest", "harvest + training", "weights"
    tickets_done: int = 0
    tickets_issued: int = 0
    accepted: int = 0  # in this round
    reward_rate: float | None = None  # of this round
    tokens_per_s: float | None = None  # decoded by all engines
    training_step: int = 0  # of this round
    training_steps: int = 0
    heldout_loss: float | None = None  # the latest
    engines: dict[str, str] = field(default_factory=dict)  # "name/replica" -> state

    def parts(self) -> list[tuple[str, str]]:
        """(label, value) pairs in the order they are shown."""
        parts = [("round", str(self.round)), ("phase", self.phase)]
        parts.append(("tickets", f"{self.tickets_done}/{self.tickets_issued}"))
        parts.append(("accepted", str(self.accepted)))
        if self.reward_rate is not None:
            parts.append(("sources win", f"{self.reward_rate:.0%}"))
        if self.tokens_per_s is not None:
            parts.append(("tokens/s", f"{self.tokens_per_s:.0f}"))
        if self.training_steps:
            parts.append(("training step", f"{self.training_step}/{self.training_steps}"))
        if self.heldout_loss is not None:
            parts.append(("held-out loss", f"{self.heldout_loss:.3f}"))
        return parts


class Console:
    """Shows messages, progress and the final table. Close it, or use it as a context manager.

    Modes: `live` redraws one view; `lines` prints progress at most every 10 s and at each change of round or phase;
    `quiet` shows messages and the table only; `auto` is `live` on a terminal and `lines` otherwise.
    """

    def __init__(self, mode: Mode = "auto", file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = _Screen(file=file or sys.stderr, highlight=False, soft_wrap=True)
        self.mode: Mode = ("live" if self._console.is_terminal else "lines") if mode == "auto" else mode
        self._clock = clock
        self._last: tuple[float, int, str] | None = None
        self._live: Live | None = None
        if self.mode == "live":
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._handler = _Handler(self)
        logging.getLogger("bohdi_ray").addHandler(self._handler)
        logging.getLogger("py.warnings").addHandler(self._handler)
        logging.captureWarnings(True)

    def message(self, text: str) -> None:
        """Shows one or more lines that stay."""
        self._console.print(Text(message(text)))

    def warning(self, text: str) -> None:
        """A message that asks for attention."""
        self._console.print(Text(f"warning: {message(text)}", style="yellow"))

    def progress(self, progress: RoundProgress) -> None:
        """Show how far the run is."""
        if self._live is not None:
            self._live.update(_view(progress), refresh=True)
        elif self.mode == "lines" and self._is_due(progress):
            self._console.print(Text(one_line(", ".join(f"{k} {v}" for k, v in progress.parts()))))

    def table(self, summary: Summary) -> None:
        """The table at the end of a run."""
        self._stop_live()
        if self._console.is_terminal:
            self._console.print(as_table(summary))
        else:
            self._console.print(Text(as_text(summary)))

    def close(self) -> None:
        """Release the terminal, logging and warnings."""
        self._stop_live()
        logging.getLogger("bohdi_ray").removeHandler(self._handler)
        logging.getLogger("py.warnings").removeHandler(self._handler)
        logging.captureWarnings(False)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _is_due(self, progress: RoundProgress) -> bool:
        now = self._clock()
        if self._last is not None:
            at, round, phase = self._last
            if (round, phase) == (progress.round, progress.phase) and now - at < LINE_EVERY_S:
                return False
        self._last = (now, progress.round, progress.phase)
        return True


class _Screen(rich.console.Console):
    """Raises an ordinary error if the reader of the output is gone, where Rich would end the program."""

    def on_broken_pipe(self) -> None:
        raise


def _view(progress: RoundProgress) -> Table:
    view = Table.grid(padding=(0, 2))
    for label, value in progress.parts():
        view.add_row(Text(label, style="dim"), Text(one_line(value, 100)))
    if progress.engines:
        states = ", ".join(f"{name} {state}" for name, state in sorted(progress.engines.items()))
        view.add_row(Text("engines", style="dim"), Text(one_line(states, 300)))
    return view


class _Handler(logging.Handler):
    """Log records of this package, and Python's warnings, as lines on the console."""

    def __init__(self, console: Console):
        super().__init__(level=logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)  # with the traceback, if the record has one
            if record.levelno >= logging.WARNING:
                self._console.warning(text)
            else:
                self._console.message(text)
        except Exception:  # a terminal that is gone must not end what logs
            self.handleError(record)
