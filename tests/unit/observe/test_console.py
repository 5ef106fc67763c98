"""Progress as lines or as a live view, with hostile text made harmless."""

from __future__ import annotations

import io
import logging
import warnings

from bohdi_ray.languages.terminal_text import one_line, printable
from bohdi_ray.observe.console.view import Console, RoundProgress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_progress_is_plain_lines_at_changes_and_now_and_then():
    out, clock = io.StringIO(), Clock()
    with Console("auto", out, clock) as console:
        assert console.mode == "lines"
        for seconds, phase, done in [(0, "harvest", 1), (5, "harvest", 2), (6, "training", 2), (17, "training", 2)]:
            clock.now = seconds
            console.progress(RoundProgress(0, phase, done, 4, accepted=done, reward_rate=0.5, heldout_loss=2.25))
    assert out.getvalue().splitlines() == [
        "round 0, phase harvest, tickets 1/4, accepted 1, sources win 50%, held-out loss 2.250",
        "round 0, phase training, tickets 2/4, accepted 2, sources win 50%, held-out loss 2.250",
        "round 0, phase training, tickets 2/4, accepted 2, sources win 50%, held-out loss 2.250",
    ]


def test_on_a_terminal_there_is_a_live_view_with_engines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Console("auto", out) as console:
        assert console.mode == "live"
        console.progress(
            RoundProgress(3, "harvest + training", 7, 9, engines={"alpha/0": "ready", "beta/0": "loading"})
        )
        console.message("a line that stays")
    assert "7/9" in out.getvalue() and "alpha/0 ready, beta/0 loading" in out.getvalue()
    assert "a line that stays" in out.getvalue()


def test_quiet_shows_messages_and_warnings_only():
    out = io.StringIO()
    with Console("quiet", out) as console:
        console.progress(RoundProgress(0, "harvest"))
        console.message("started")
        console.warning("alpha is left out")
    assert out.getvalue() == "started\nwarning: alpha is left out\n"


def test_text_cannot_use_markup_or_move_the_cursor():
    out = io.StringIO()
    with Console("lines", out) as console:
        console.message("[red]no[/red] [/] \x1b[31mcolour\x07 \u202eback")
        console.progress(RoundProgress(0, "harvest\nround 9 phase [bold]done"))
    text = out.getvalue()
    assert "[red]no[/red] [/] �[31mcolour� �back" in text
    assert "phase harvest round 9 phase [bold]done," in text
    assert len(text.splitlines()) == 2


def test_logs_and_warnings_appear_while_open_and_not_after():
    out = io.StringIO()
    log = logging.getLogger("bohdi_ray.some.room")
    with Console("lines", out), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        log.warning("engine %s replaced", "alpha/0")
        warnings.warn("old setting", stacklevel=1)
    log.warning("too late")
    assert "warning: engine alpha/0 replaced" in out.getvalue()
    assert "old setting" in out.getvalue()
    assert "too late" not in out.getvalue()


def test_printable_keeps_all_scripts_and_lines():
    text = "Ärger 数学 🙂\n\tline"
    assert printable(text) == text
    assert one_line("a\nb  c", 4) == "a b…"
