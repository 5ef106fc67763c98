"""Draws the report as a figure, PNG and SVG: accuracy by domain before and after, its curve over the rounds,
samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bohdi_ray.studies.simulation.figures import figure

BEFORE, AFTER, SOURCE, LOST = "#999999", "#0072B2", "#E69F00", "#D55E00"


def draw_report(plain: Mapping[str, Any], path: Path) -> None:
    """Writes `path`.png and `path`.svg."""
    domains = plain["domains"]
    names = [" / ".join(domain["path"]) for domain in domains]
    places = list(range(len(names)))[::-1]
    with figure(path, 1, 4, (12, 1.4 + 0.2 * len(names))) as axes:
        accuracy, change, samples, rounds = axes[0]
        before, after = [domain["before"] for domain in domains], [domain["after"] for domain in domains]
        accuracy.hlines(places, before, after, color=AFTER, linewidth=1)
        accuracy.plot(before, places, "o", color=BEFORE, markersize=4, label="before")
        accuracy.plot(after, places, "o", color=AFTER, markersize=4, label="after")
        accuracy.plot([d["best_source"] for d in domains], places, "|", color=SOURCE, markersize=8, label="best source")
        accuracy.set(title="exact match, share of questions", xlim=(-0.03, 1.03))
        accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, handletextpad=0.1, columnspacing=0.8)
        change.barh(places, [domain["gained"] for domain in domains], color=AFTER, height=0.6)
        change.barh(places, [-domain["lost"] for domain in domains], color=LOST, height=0.6)
        change.axvline(0, color="black", linewidth=0.6)
        change.set(title="lost and gained", xlabel="questions")
        samples.barh(places, [domain["samples"] for domain in domains], color=BEFORE, height=0.6)
        samples.set(title="samples", xlabel="samples")
        for axis in (accuracy, change, samples):
            axis.set_yticks(places, names if axis is accuracy else [""] * len(names))
        curve = plain["versions"]
        rounds.plot([entry["version"] for entry in curve], [entry["accuracy"] for entry in curve], "o-", color=AFTER)
        for accuracy_of_source in plain["sources"].values():
            rounds.axhline(accuracy_of_source, color=SOURCE, linewidth=0.8)
        rounds.set(title="target by round (lines: sources)", ylim=(0, 1), xlabel="rounds trained")
        rounds.set_ylabel("exact match, mean over domains")
