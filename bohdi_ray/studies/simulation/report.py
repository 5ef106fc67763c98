"""Runs a study from start to end and reports it: plain data for JSON, tables for people."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bohdi_ray.studies.simulation.policies import ENTRANTS, REFERENCE, tuned
from bohdi_ray.studies.simulation.statistics import (
    add_distances_to_oracle,
    claims,
    interval,
    over_seeds,
    paired,
    pick,
    verdict,
)
from bohdi_ray.studies.simulation.study import jobs_for, simulate_all, tune
from bohdi_ray.studies.simulation.world_spec import WorldSpec

FIGURES = (
    "mean_skill",
    "worst_skill",
    "samples_to_90",
    "gain",
    "worst_gap",
    "balance",
    "behind",
    "regret",
    "censored",
    "found",
    "num_rebirths",
    "false_rebirths",
    "missed_changes",
)
COLUMNS = (  # key, heading, digits
    ("gain", "gain", 3),
    ("worst_skill", "worst skill", 2),
    ("worst_gap", "worst gap", 2),
    ("balance", "sd of gaps", 2),
    ("behind", "behind %", 0),
    ("samples_to_90", "to 90 %", 0),
    ("regret", "regret", 3),
    ("false_rebirths", "false %", 1),
    ("missed_changes", "missed %", 0),
)


@dataclass(frozen=True)
class Study:
    worlds: dict[str, WorldSpec]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    num_rounds: int
    num_processes: int
    tuning: bool


def run_study(study: Study, say: Callable[[str], None]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(report, runs). `say` takes lines about progress."""
    choices = {name: tuned(name) for name in study.policies}
    tuning: list[dict[str, Any]] = []
    if study.tuning:
        say("tuning every policy on separate seeds")
        progress = progress_lines(say)
        choices, tuning = tune(study.worlds, study.policies, study.num_rounds, study.num_processes, progress)
    jobs = jobs_for(study.worlds, choices, study.seeds, study.num_rounds)
    say(f"{len(jobs)} simulated fusions of {study.num_rounds} rounds")
    runs = simulate_all(jobs, study.num_processes, progress_lines(say))
    add_distances_to_oracle(runs)
    return _report(study, choices, tuning, runs), runs


def progress_lines(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Reports the progress of a study every 5 s."""
    started = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 5 or done == total:
            last = now
            say(f"  {done} of {total} fusions, {now - started:.0f} s")

    return tell


def _report(
    study: Study, choices: dict[str, dict[str, Any]], tuning: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> dict[str, Any]:
    worlds: dict[str, Any] = {}
    for world in study.worlds:
        worlds[world] = {}
        for policy in study.policies:
            values = {key: list(pick(runs, key, policy, world).values()) for key in FIGURES}
            row = {key: interval(some) for key, some in values.items() if some}
            if REFERENCE in study.policies and policy != REFERENCE:
                row["paired_gain"] = paired(runs, "gain", policy, world, 1)
                row["paired_worst_skill"] = paired(runs, "worst_skill", policy, world, 1)
            worlds[world][policy] = row
    overall = {}
    for policy in study.policies:
        values = {key: over_seeds(runs, key, policy) for key in FIGURES}
        overall[policy] = {key: interval(some) for key, some in values.items() if some}
        overall[policy]["settings"] = choices[policy]
    return {
        "policies": overall,
        "worlds": worlds,
        "verdict": verdict(runs),
        "claims": claims(runs),
        "tuning": tuning,
        "seeds": list(study.seeds),
        "rounds": study.num_rounds,
    }


def as_json(report: dict[str, Any]) -> str:
    """One line of JSON; numbers that are not finite become null."""
    return json.dumps(_finite(report))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Tables.


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    if markdown:
        lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in [heading, *rows]) for i in range(len(heading))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in [heading, *rows]
    )


def tables(report: dict[str, Any], markdown: bool = False) -> str:
    """All worlds one by one, then side by side, then the verdict."""
    parts = []
    for world, rows in report["worlds"].items():
        parts.append(("### " if markdown else "") + world)
        parts.append(_world_table(rows, markdown))
    if len(report["worlds"]) > 1:
        parts.append(("### " if markdown else "") + "All worlds together")
        parts.append(_world_table(report["policies"], markdown))
        for key, heading, digits in (("gain", "Gain of mean skill", 3), ("worst_gap", "Worst gap at the end", 2)):
            parts.append(("### " if markdown else "") + f"{heading}, quality units, by world")
            parts.append(_by_world(report, key, digits, markdown))
    if report["claims"]:
        for key, heading in (("gain", "Gain"), ("worst_gap", "Worst gap")):
            parts.append(("### " if markdown else "") + f"{heading}, what the paper compares, paired")
            parts.append(claims_table(report, key, markdown))
    parts.append(("### " if markdown else "") + "Gain against dynabranches, paired")
    parts.append(_verdict_table(report, markdown))
    if rivals := report["verdict"].get("rivals"):
        best = report["verdict"]["recommended"]
        parts.append(("### " if markdown else "") + f"Others that pass, against {best}, paired")
        lines = [[name, *(_with_mark(gain) for gain in gains.values())] for name, gains in rivals.items()]
        parts.append(table(["policy", *report["worlds"], "all"], lines, markdown))
    parts.append(verdict_text(report))
    return "\n\n".join(parts)


def _world_table(rows: dict[str, Any], markdown: bool) -> str:
    heading = ["policy", *(name for _, name, _ in COLUMNS)]
    lines = []
    for policy, row in sorted(rows.items(), key=lambda item: -item[1]["gain"]["mean"]):
        cells = [policy]
        for key, name, digits in COLUMNS:
            if key not in row:
                cells.append("")
                continue
            factor = 100 if name.endswith("%") and key != "samples_to_90" else 1
            text = f"{factor * row[key]['mean']:.{digits}f}"
            if key == "gain" and math.isfinite(row[key]["low"]):
                text += f" ± {row[key]['high'] - row[key]['mean']:.3f}"
            if key == "samples_to_90" and row["censored"]["mean"] > 0:
                text = f"> {text}"
            cells.append(text)
        lines.append(cells)
    return table(heading, lines, markdown)


def _by_world(report: dict[str, Any], key: str, digits: int, markdown: bool) -> str:
    worlds, best_first = report["worlds"], -1 if key == "gain" else 1
    overall = {name: row[key]["mean"] for name, row in report["policies"].items()}
    lines = [
        [name, *(f"{rows[name][key]['mean']:.{digits}f}" for rows in worlds.values()), f"{overall[name]:.{digits}f}"]
        for name in sorted(overall, key=lambda name: best_first * overall[name])
    ]
    return table(["policy", *worlds, "all"], lines, markdown)


def _verdict_table(report: dict[str, Any], markdown: bool) -> str:
    found = report["verdict"]["challengers"]
    worlds = list(report["worlds"])
    lines = []
    for name, row in sorted(found.items(), key=lambda item: -item[1]["overall"]["mean"]):
        cells = [name, *(_with_mark(row["gains"][world]) for world in worlds)]
        overall = row["overall"]
        cells.append(f"{overall['mean']:+.3f} [{overall['low']:+.3f}, {overall['high']:+.3f}]")
        lines.append([*cells, "yes" if row["passes"] else "no"])
    return table(["challenger", *worlds, "all", "passes"], lines, markdown)


def _with_mark(gain: dict[str, float]) -> str:
    return f"{gain['mean']:+.3f} {_mark(gain)}"


def _mark(gain: dict[str, float]) -> str:
    """+ or - where the interval is above or below 0."""
    return "+" if gain["low"] > 0 else "-" if gain["high"] < 0 else " "


def claims_table(report: dict[str, Any], key: str, markdown: bool) -> str:
    digits = 3 if key == "gain" else 2
    lines = [
        [pair, *(f"{gain['mean']:+.{digits}f} {_mark(gain)}" for gain in figures[key].values())]
        for pair, figures in report["claims"].items()
    ]
    return table(["less", *report["worlds"], "all"], lines, markdown)


def verdict_text(report: dict[str, Any]) -> str:
    found = report["verdict"]
    if not found["challengers"]:
        return "No verdict: it needs dynabranches and a challenger."
    number, recommended = len(found["challengers"]), found["recommended"]
    result = f"Recommended default: {recommended}."
    if recommended == REFERENCE:
        # Few worlds and seeds seldom decide: that says nothing against the default that the full study found.
        result = "No challenger passes the rule on these worlds and seeds."
    return (
        f"{result} Rule: paired interval of the gain ({number} challengers, each "
        f"at 1 - 0.05 / {number}) above 0 on most worlds (+) and below 0 (-) on none; then the highest mean."
    )


def about(policies: Sequence[str]) -> str:
    return table(["policy", "what it is"], [[name, ENTRANTS[name].about] for name in policies])
