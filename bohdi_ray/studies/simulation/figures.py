"""Figures as PNG and SVG; the same data give the same bytes with the same matplotlib. Colours: Okabe and Ito's, and one
of Tol's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bohdi_ray.studies.simulation.statistics import interval, pick

LINES = {  # policy: colour, line; the others are thin and grey
    "oracle": ("#000000", ":"),
    "dynabranches": ("#0072B2", "-"),
    "dynabranches_no_ir": ("#56B4E9", "--"),
    "uniform": ("#E69F00", "-"),
    "greedy": ("#CC79A7", "-."),
    "discounted_thompson": ("#D55E00", "-"),
    "aged_thompson": ("#009E73", "-"),
    "dynamic_thompson": ("#882255", "--"),
}
GREY = "#AAAAAA"
CLEARLY_WORSE = -0.12  # quality units; what is below is an arrow at the edge, so that the rest can be told apart
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "bohdi_ray",
    "svg.fonttype": "none",
    "figure.dpi": 160,
}


@contextmanager
def figure(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Axes [rows, columns] to draw on; at the end `path`.png and `path`.svg are written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        drawn, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        yield axes
        drawn.savefig(path.with_suffix(".png"), metadata={"Software": None})
        drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        pyplot.close(drawn)


def draw_curves(runs: list[dict[str, Any]], path: Path) -> None:
    """Gain of mean skill by samples, one panel per world, with 95 % intervals over seeds.

    If the oracle ran, gains are shares of its final gain on the same seed: worlds of one shape differ in how much can
    be learned, and that would hide the differences between policies.
    """
    finals = {(run["world"], run["seed"]): run["gain"] for run in runs if run["policy"] == "oracle"}
    shares = all((run["world"], run["seed"]) in finals for run in runs)
    worlds = list(dict.fromkeys(run["world"] for run in runs))
    policies = list(dict.fromkeys(run["policy"] for run in runs))
    policies.sort(key=lambda name: name in LINES)  # coloured lines on top
    columns = min(4, len(worlds) + 1)
    rows = -(-(len(worlds) + 1) // columns)
    with figure(path, rows, columns, (2.6 * columns, 2.5 * rows)) as axes:
        for axis, world in zip(axes.flat, worlds, strict=False):
            for policy in policies:
                mine = [run for run in runs if run["world"] == world and run["policy"] == policy]
                _curve(axis, mine, policy, finals if shares else None)
            axis.set(title=world.replace("_", " "), xlabel="samples", xlim=(0, None))
        for row in axes:
            row[0].set_ylabel("gain, % of the oracle's" if shares else "gain of mean skill, quality units")
        for axis in axes.flat[len(worlds) :]:
            axis.axis("off")
        handles: dict[str, Any] = {}
        for axis in axes.flat[: len(worlds)]:
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        named = [name for name in LINES if name in handles] + [name for name in ("others",) if name in handles]
        axes.flat[len(worlds)].legend([handles[name] for name in named], named, loc="center")


def _curve(axis: Any, runs: list[dict[str, Any]], policy: str, finals: dict[Any, float] | None) -> None:
    samples = np.mean([run["samples"] for run in runs], axis=0)
    units = [finals[run["world"], run["seed"]] / 100 if finals else 1.0 for run in runs]
    curves = [np.array(run["curve"]) / unit for run, unit in zip(runs, units, strict=True)]
    points = [interval(values) for values in np.transpose(curves)]
    mean = [point["mean"] for point in points]
    if policy not in LINES:
        axis.plot(samples, mean, color=GREY, linewidth=0.6, label="others", zorder=1)
        return
    colour, line = LINES[policy]
    axis.plot(samples, mean, line, color=colour, linewidth=1.4, label=policy)
    low, high = [point["low"] for point in points], [point["high"] for point in points]
    axis.fill_between(samples, low, high, color=colour, alpha=0.12, linewidth=0)


def draw_differences(report: dict[str, Any], path: Path) -> None:
    """Each challenger's gain less that of dynabranches on the same worlds and seeds, with corrected intervals."""
    found = report["verdict"]["challengers"]
    panels = [*report["worlds"], "all"]
    names = sorted(found, key=lambda name: found[name]["overall"]["mean"])
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with figure(path, rows, columns, (2.2 * columns + 1.2, rows * (0.19 * len(names) + 0.8))) as axes:
        for number, world in enumerate(panels):
            axis = axes.flat[number]
            gains = [found[name]["overall"] if world == "all" else found[name]["gains"][world] for name in names]
            for y, gain in enumerate(gains):
                _interval(axis, gain, y)
            axis.axvline(0, color="black", linewidth=0.6)
            named = names if number % columns == 0 else [""] * len(names)
            axis.set_yticks(range(len(names)), named)
            axis.set(title=world.replace("_", " "), ylim=(-0.6, len(names) - 0.4))
            axis.set_xlim(left=max(CLEARLY_WORSE, axis.get_xlim()[0]))
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        axes[-1][0].figure.supxlabel("gain less that of dynabranches, quality units", fontsize=8)


def _interval(axis: Any, gain: dict[str, float], y: int) -> None:
    colour = "#009E73" if gain["low"] > 0 else "#D55E00" if gain["high"] < 0 else "#777777"
    if gain["mean"] < CLEARLY_WORSE:
        axis.plot(CLEARLY_WORSE, y, "<", color=colour, markersize=4, clip_on=False)
        axis.annotate(
            f"{gain['mean']:.2f}", (CLEARLY_WORSE, y), (5, 0), textcoords="offset points", va="center", size=7
        )
        return
    axis.plot([gain["low"], gain["high"]], [y, y], color=colour, linewidth=1.4)
    axis.plot(gain["mean"], y, "o", color=colour, markersize=3.5)


def draw_judge_bias(bias: dict[str, Any], runs: list[dict[str, Any]], path: Path) -> None:
    """Draws the effect of the bonus for the first slot on rewards, on the allocation of samples and on the result."""
    looks = {"shuffled": ("#0072B2", "-", "o", -0.02), "target_first": ("#D55E00", "--", "s", 0.02)}
    with figure(path, 1, 3, (10, 3)) as axes:
        rewards = axes[0][0]
        rewards.plot(bias["gaps"], bias["rates"]["shuffled"]["0.0"], ":", color="black", label="no bonus")
        for order, (colour, line, _, _) in looks.items():
            label = f"bonus 1.0, {order.replace('_', ' ')}"
            rewards.plot(bias["gaps"], bias["rates"][order]["1.0"], line, color=colour, label=label)
        rewards.set(xlabel="target behind three equal sources, quality units", ylabel="probability of reward 1")
        rewards.set(title="reward", ylim=(0, 1.02))
        rewards.legend(loc="lower right")
        for axis, key, factor in ((axes[0][1], "behind", 100), (axes[0][2], "gain", 1)):
            without = pick(runs, key, "shuffled 0.0")
            for order, (colour, line, mark, aside) in looks.items():
                found = [pick(runs, key, f"{order} {bonus}") for bonus in bias["bonuses"]]
                points = [interval([factor * (values[at] - without[at]) for at in without]) for values in found]
                means = [point["mean"] for point in points]
                errors = [point["high"] - point["mean"] for point in points]
                places = [bonus + aside for bonus in bias["bonuses"]]
                label = order.replace("_", " ")
                axis.errorbar(
                    places,
                    means,
                    errors,
                    linestyle=line,
                    color=colour,
                    marker=mark,
                    markersize=4,
                    capsize=2,
                    label=label,
                )
            axis.axhline(0, color="black", linewidth=0.6)
            axis.set(xlabel="bonus of the first slot, quality units")
        axes[0][1].set(title="allocation", ylabel="samples where it is behind,\nchange in percentage points")
        axes[0][2].set(title="result", ylabel="gain of mean skill,\nchange in quality units")
        axes[0][1].legend(loc="upper left")
        axes[0][2].legend(loc="lower left")
