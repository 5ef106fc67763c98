"""The summary as a table for people, with rich or as plain text. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.observe.source_report import reasons
from bohdi_ray.observe.summary import PHASES, Summary
from bohdi_ray.records import SourceCounts

Row = tuple[str, str]
Section = tuple[str, list[Row]]


def sections(summary: Summary) -> list[Section]:
    """Titles with rows of (label, value), free of control characters."""
    groups = [
        ("Result", _result(summary)),
        ("Exploration", _exploration(summary)),
        ("Who won", _winners(summary)),
        ("What sources gave", [(name, _of_source(counts)) for name, counts in summary.sources.items()]),
        ("Tokens decoded per accepted sample", _tokens(summary)),
        ("Time", _time(summary)),
        ("Rounds", _rounds(summary)),
        ("Written to", list(summary.paths.items())),
    ]
    return [(title, [(one_line(k), one_line(v)) for k, v in rows]) for title, rows in groups if rows]


def as_table(summary: Summary) -> Table:
    """For a terminal."""
    table = Table(show_header=False, title="Fusion", title_justify="left", box=None, padding=(0, 2))
    for title, rows in sections(summary):
        table.add_row(Text(title, style="bold"), Text(""))
        for label, value in rows:
            table.add_row(Text(f"  {label}"), Text(value))
    return table


def as_text(summary: Summary) -> str:
    """For a log file."""
    lines = []
    for title, rows in sections(summary):
        width = max(len(label) for label, _ in rows)
        lines.append(title)
        lines += [f"  {label:<{width}}  {value}" for label, value in rows]
    return "\n".join(lines)


def counts_by_reason(counts: Mapping[str, int]) -> str:
    """Counts with their reasons, largest first."""
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _result(summary: Summary) -> list[Row]:
    rows = [("stopped because", summary.stop_reason)]
    if summary.failed_because is not None:
        rows.append(("FAILED because", summary.failed_because))
    if summary.heldout_loss_before is not None:
        fall = "" if summary.heldout_loss_fall is None else f" ({-summary.heldout_loss_fall:+.1%})"
        before, after = _number(summary.heldout_loss_before, ".3f"), _number(summary.heldout_loss_after, ".3f")
        rows.append(("loss on held-out samples", f"{before} -> {after}{fall}"))
    if len(summary.evaluated) > 1:
        first, last = min(summary.evaluated), max(summary.evaluated)
        before, after = (f"{summary.evaluated[version]:.3f}" for version in (first, last))
        rows.append(("mean score of the tasks", f"{before} -> {after} (versions {first} and {last})"))
    if summary.num_sure:
        share = summary.num_lost / summary.num_sure
        rows.append(("sure answers lost", f"{summary.num_lost} of {summary.num_sure} ({share:.0%}), of a fixed text"))
    return rows


def _exploration(summary: Summary) -> list[Row]:
    tickets = sum(round.tickets for round in summary.rounds)
    levels = " / ".join(map(str, summary.domains_by_level))
    return [
        ("domains by level", levels or "none"),
        ("samples", f"{summary.samples.num_samples}, of which {summary.samples.num_heldout} held out"),
        ("harvests", f"{tickets}, accepted {summary.num_accepted}"),
        ("failed", counts_by_reason(summary.failures)),
        *([("walks without a domain", counts_by_reason(abandoned))] if (abandoned := summary.abandoned) else []),
        *([("training rows rejected", counts_by_reason(rejected))] if (rejected := summary.rejected_rows) else []),
        ("reward rate", f"{_number(summary.reward_rate, '.1%')} of samples won by a source"),
        ("nearly the same question", _number(summary.samples.near_duplicate_rate, ".1%")),
        ("tree digest", summary.tree_digest),
    ]


def _winners(summary: Summary) -> list[Row]:
    rows = []
    for model, wins in summary.samples.wins.items():
        share = wins / summary.samples.num_samples if summary.samples.num_samples else None
        value = f"{wins} ({_number(share, '.0%')})"
        if absent := summary.samples.absent.get(model):
            value += f"; left out of {absent} samples"
        preference = summary.samples.self_preference.get(model)
        if preference is not None and preference.difference is not None and preference.interval is not None:
            low, high = preference.interval
            value += f"; while leading {preference.difference:+.0%} (95 %: {low:+.0%} to {high:+.0%})"
        rows.append((model, value))
    return rows


def _of_source(counts: SourceCounts) -> str:
    """The number of requests that a source answered usably, and why the others failed."""
    lost = f"; lost: {reasons(counts)}" if counts.lost else ""
    return f"{counts.num_asked - counts.num_lost} of {counts.num_asked} requests answered{lost}"


def _tokens(summary: Summary) -> list[Row]:
    return [(role, _number(value, ".1f")) for role, value in summary.tokens_per_accepted_sample.items()]


def _time(summary: Summary) -> list[Row]:
    names = [*PHASES, *(name for name in summary.seconds if name not in PHASES)]
    rows = [(name.replace("_", "-"), f"{summary.seconds[name]:.1f} s") for name in names if name in summary.seconds]
    if summary.overlap_share is not None:
        rows.append(("harvest and training together", f"{summary.overlap_share:.0%} of the shorter one"))
    return rows


def _rounds(summary: Summary) -> list[Row]:
    return [
        (
            str(round.round),
            f"target version {round.weights_version}, accepted {round.accepted}/{round.tickets}, "
            f"reward rate {_number(round.reward_rate, '.0%')}, rows trained {round.trained_rows}"
            f"{f' of {round.training_rows}' if round.rejected_rows else ''}, "
            f"held-out loss {_number(round.heldout_loss, '.3f')}",
        )
        for round in summary.rounds
    ]
