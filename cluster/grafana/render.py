"""Draws the dashboard's panels from a Prometheus server with matplotlib, where no Grafana is at hand.

What Grafana would show is asked for by Grafana's own means (the panels' queries, over a range of time); the drawing is
not Grafana's. Usage: python cluster/grafana/render.py http://127.0.0.1:9090 OUT.png [--minutes 30] [--rows Harvest]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

BOARD = Path(__file__).with_name("bohdi_ray.json")
POINTS = 240  # along the time axis
MOST_LABELS = 10  # of a panel's legend
Series = dict[str, list[tuple[float, float]]]  # (Unix time in s, value) by what the legend says


def resolved(expr: str, rate_s: float) -> str:
    """A panel's query with its variables filled in: all sessions, all runs, rates over `rate_s`."""
    for name, value in (("SessionName", ".+"), ("run", ".+"), ("__rate_interval", f"{rate_s:.0f}s")):
        expr = expr.replace(f"${name}", value)
    return expr


def ask(server: str, path: str, **parameters: Any) -> Any:
    """The `data` of a Prometheus server's answer. Raises RuntimeError with what it says is wrong."""
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{parameters.get('query', path)}: {error.read().decode()}") from error


def series(server: str, target: dict[str, Any], start: float, end: float, rate_s: float) -> Series:
    """What one query of a panel gives between two times; points that are no number are left out."""
    step = max(1.0, (end - start) / POINTS)
    expr = resolved(target["expr"], rate_s)
    found: Series = {}
    for one in ask(server, "query_range", query=expr, start=start, end=end, step=step)["result"]:
        points = [(float(at), float(value)) for at, value in one["values"]]
        label = re.sub(r"\{\{(\w+)\}\}", lambda name, of=one: of["metric"].get(name[1], ""), target["legendFormat"])
        found[label.strip()] = [point for point in points if math.isfinite(point[1])]
    return {label: points for label, points in found.items() if points}


def rows(board: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The panels by the row that they are in."""
    found: dict[str, list[dict[str, Any]]] = {}
    for panel in board["panels"]:
        if panel["type"] == "row":
            found[panel["title"]] = []
        else:
            found[list(found)[-1]].append(panel)
    return found


def draw(server: str, names: Sequence[str], start: float, end: float, rate_s: float, out: Path) -> None:
    """The panels of these rows as one picture."""
    import matplotlib.pyplot as plt

    board = json.loads(BOARD.read_text("utf-8"))
    panels = [panel for name, those in rows(board).items() if name in names for panel in those]
    cells, heights = _cells(panels)
    figure = plt.figure(figsize=(15, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 6, height_ratios=heights)
    for panel, (row, left, width) in zip(panels, cells, strict=True):
        parts = [series(server, target, start, end, rate_s) for target in panel["targets"]]
        found = {label: points for part in parts for label, points in part.items()}
        axis = figure.add_subplot(grid[row, left : left + width])
        axis.set_title(panel["title"], fontsize=10, loc="left")
        if panel["type"] == "stat":
            _draw_number(axis, found)
        else:
            _draw_lines(axis, found, panel)
            axis.set_xlim(datetime.fromtimestamp(start), datetime.fromtimestamp(end))
    figure.savefig(out, dpi=72)
    plt.close(figure)


def _cells(panels: Sequence[dict[str, Any]]) -> tuple[list[tuple[int, int, int]], list[float]]:
    """Row, first column and width of each panel on six columns, and the rows' heights in inches."""
    cells: list[tuple[int, int, int]] = []
    heights: list[float] = []
    left = 6
    for panel in panels:
        width, height = (1, 1.0) if panel["type"] == "stat" else (2, 2.9)
        if left + width > 6 or heights[-1] != height:
            heights.append(height)
            left = 0
        cells.append((len(heights) - 1, left, width))
        left += width
    return cells, heights


def _draw_number(axis: Any, found: Series) -> None:
    value = next((points[-1][1] for points in found.values()), None)
    axis.set_axis_off()
    axis.text(0.5, 0.4, "-" if value is None else f"{value:g}", fontsize=28, ha="center", va="center")


def _draw_lines(axis: Any, found: Series, panel: dict[str, Any]) -> None:
    times = sorted({at for points in found.values() for at, _ in points})
    x = [datetime.fromtimestamp(at) for at in times]
    by_label = {label: dict(points) for label, points in found.items()}
    if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal" and found:
        heights = [[values.get(at, 0.0) for at in times] for values in by_label.values()]
        axis.stackplot(x, *heights, labels=list(by_label), alpha=0.7)
    else:
        for label, values in by_label.items():
            axis.plot(x, [values.get(at, math.nan) for at in times], label=label, linewidth=1.5)
    if not found:
        axis.text(0.5, 0.5, "No data", transform=axis.transAxes, ha="center")
    else:
        handles, labels = axis.get_legend_handles_labels()
        if len(labels) > MOST_LABELS:
            labels[MOST_LABELS - 1] = f"and {len(labels) - MOST_LABELS + 1} more"
        axis.legend(handles[:MOST_LABELS], labels[:MOST_LABELS], fontsize=7, ncols=2, loc="best", framealpha=0.6)
    axis.set_ylim(bottom=0)
    if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the dashboard from a Prometheus server.")
    parser.add_argument("server")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=60.0, help="seconds that rates are taken over")
    parser.add_argument("--rows", nargs="+", default=list(rows(json.loads(BOARD.read_text("utf-8")))))
    given = parser.parse_args()
    now = time.time()
    draw(given.server.rstrip("/"), given.rows, now - 60 * given.minutes, now, given.rate, given.out)


if __name__ == "__main__":
    main()
