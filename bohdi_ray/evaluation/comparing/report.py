"""An evaluation as text for people and as JSON: the table of scores, and interference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bohdi_ray.evaluation.comparing.differences import Difference
from bohdi_ray.evaluation.comparing.interference import Interference
from bohdi_ray.evaluation.comparing.results import Cell, Row

MOST_SINGLE_TASKS = 12  # of groups, that are shown beside their groups' own rows
SHOWN_LOSSES = 10
WIDE = 1000  # columns: nothing is wrapped


def table_text(rows: Sequence[Row], subjects: Sequence[str], full: bool = False, width: int = WIDE) -> str:
    """The scores with standard errors, and each subject's difference to the first with its interval at 95 %."""
    single = {row.task for row in rows if not row.is_group}
    hides = not full and any(row.is_group for row in rows) and len(single) > MOST_SINGLE_TASKS
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("task", "metric", "questions", *subjects):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right", overflow="fold")
    for subject in subjects[1:]:
        heading = "less the first" if len(subjects) == 2 else f"{subject} less the first"
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        if hides and not row.is_group:
            continue
        table.add_row(
            row.task,
            row.label if row.higher_is_better else f"{row.label} (lower is better)",
            str(row.num_questions),
            *(_cell(row.cells[subject]) for subject in subjects),
            *(_difference(row.differences.get(subject), row.higher_is_better) for subject in subjects[1:]),
        )
    lines = [_printed(table, width)]
    if hides:
        lines.append(f"({len(single)} single tasks are in the files; --full shows them)")
    if len(subjects) > 1:
        lines.append("differences: mean over the same questions, [95 % interval of a paired bootstrap]; * leaves out 0")
    return "\n".join(lines)


def interference_text(found: Interference, subject: str, before: str, against: tuple[str, float] | None) -> str:
    """Interference in sentences, and the tasks that lost most."""
    lines = [
        f"interference of {subject} with {before}: {found.num_below} of {found.num_tasks} tasks are below it, "
        f"{found.num_beyond} beyond their interval; {found.num_above} above, {found.num_gained} beyond",
        f"by chance alone, with the same number of questions changed: {found.below_by_chance:.1f} below, "
        f"{found.beyond_by_chance:.2f} beyond",
    ]
    if found.mean_drop is not None:
        beyond = f", {found.mean_drop_beyond:.3f} on those beyond" if found.mean_drop_beyond is not None else ""
        lines.append(f"mean drop on the tasks below: {found.mean_drop:.3f}{beyond}")
    if against is not None:
        lines.append(f"tasks below, against {against[0]}: {-100 * against[1]:+.0f} %")
    worse = [loss for loss in found.tasks if loss.difference.mean < 0][:SHOWN_LOSSES]
    lines += [
        f"  {loss.task}: {_difference(loss.difference, True)} of {loss.difference.num_questions} questions "
        f"({loss.difference.num_lost} lost, {loss.difference.num_gained} gained; a drop of {loss.detectable:.3f} "
        "would be found)"
        for loss in worse
    ]
    return "\n".join(lines)


def to_json(value: Any, indent: int | None = 2) -> bytes:
    """A line, or with `indent` several, of JSON; what JSON does not have becomes text."""
    return (json.dumps(value, indent=indent, default=str, ensure_ascii=False) + "\n").encode()


def lm_eval_json(results: Mapping[str, Any]) -> bytes:
    """lm-eval's results as its own files have them, without the samples."""
    return to_json({key: value for key, value in results.items() if key != "samples"})


def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain JSON, one entry per row."""
    return [dataclasses.asdict(row) for row in rows]


def interference_json(found: Mapping[str, Interference]) -> dict[str, Any]:
    """Plain JSON, by subject."""
    return {subject: dataclasses.asdict(one) for subject, one in found.items()}


def _cell(cell: Cell) -> str:
    return f"{cell.value:.3f}" + ("" if cell.standard_error is None else f" ± {cell.standard_error:.3f}")


def _difference(d: Difference | None, better: bool) -> str:
    if d is None:
        return "not paired"
    sign = 1 if better else -1  # shown in the metric's own direction
    low, high = sorted((sign * d.low, sign * d.high))
    star = "*" if d.is_loss or d.is_gain else " "
    return f"{sign * d.mean:+.3f} [{low:+.3f}, {high:+.3f}]{star}"


def _printed(table: Table, width: int) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
