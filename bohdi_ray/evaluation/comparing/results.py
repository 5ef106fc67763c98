"""What lm-eval found for several subjects, as comparable figures. Pure: works on lm-eval's own result dictionaries.

A row is a task or a group with one metric. Metrics that are a mean over questions are compared question by question;
others (perplexities, BLEU) are shown as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bohdi_ray.evaluation.comparing.differences import Difference, Scores, difference, group_weights, paired

LmResults = Mapping[str, Any]  # what lm_eval.simple_evaluate returns
# Tasks whose usual figure is not the first metric they list.
USUAL_METRICS = {"hellaswag": "acc_norm", "openbookqa": "acc_norm"}
CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Cell:
    """One subject's figure, as lm-eval gives it."""

    value: float
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A task or group with a metric, over all subjects; `differences` are to the first one, missing where they cannot
    be paired."""

    task: str
    metric: str
    filter: str
    num_questions: int
    is_group: bool
    higher_is_better: bool
    cells: dict[str, Cell]  # by subject
    differences: dict[str, Difference]  # by subject, positive is better

    @property
    def label(self) -> str:
        return self.metric if self.filter == "none" else f"{self.metric}, {self.filter}"


def rows_of(results: Mapping[str, LmResults], groups: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows of all tasks and groups that every subject has, groups first. `groups`: single tasks by group."""
    first = next(iter(results.values()))
    rows = []
    for name in [*(group for group in groups if group in first["results"]), *first["samples"]]:
        figures = first["results"].get(name, {})
        for key in figures:
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(figures[key], int | float):
                continue
            cells = {subject: _cell(one, name, metric, filter_name) for subject, one in results.items()}
            known = {subject: cell for subject, cell in cells.items() if cell is not None}
            if len(known) == len(results):
                better = _higher_is_better(first, name, groups.get(name, (name,)), metric)
                members = groups.get(name, (name,))
                differences = _differences(results, members, metric, filter_name, better, known, name)
                num = sum(len(_questions(first, member, filter_name)) for member in members)
                rows.append(Row(name, metric, filter_name, num, name in groups, better, known, differences))
    return rows


def usual_rows(rows: Sequence[Row], chosen: Mapping[str, str] | None = None) -> dict[str, Row]:
    """One row for each single task: with the METRIC or METRIC,FILTER `chosen` for it, else the usual metric, else the
    first."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.is_group:
            continue
        wanted = (chosen or {}).get(row.task) or next(
            (metric for stem, metric in USUAL_METRICS.items() if row.task.startswith(stem)), None
        )
        names = (row.metric, f"{row.metric},{row.filter}")
        if row.task not in found or (wanted in names and wanted != found[row.task].metric):
            found[row.task] = row
    return found


def _cell(results: LmResults, name: str, metric: str, filter_name: str) -> Cell | None:
    figures = results["results"].get(name, {})
    value, error = figures.get(f"{metric},{filter_name}"), figures.get(f"{metric}_stderr,{filter_name}")
    if not isinstance(value, int | float):
        return None
    return Cell(float(value), float(error) if isinstance(error, int | float) else None)


def _higher_is_better(results: LmResults, name: str, members: Sequence[str], metric: str) -> bool:
    said = results.get("higher_is_better", {})
    known = [said.get(one, {}).get(metric) for one in (name, *members)]
    return next((one for one in known if one is not None), True)


def _differences(
    results: Mapping[str, LmResults],
    members: Sequence[str],
    metric: str,
    filter_name: str,
    better: bool,
    cells: Mapping[str, Cell],
    name: str,
) -> dict[str, Difference]:
    scores = {
        subject: {member: scores_of(one, member, metric, filter_name, better) for member in members}
        for subject, one in results.items()
    }
    if any(found is None for one in scores.values() for found in one.values()):
        return {}
    by_task: dict[str, dict[str, Scores]] = scores  # type: ignore[assignment]
    first = next(iter(by_task))
    try:
        pairs = {
            subject: [paired(tasks[member], by_task[first][member]) for member in members]
            for subject, tasks in by_task.items()
            if subject != first
        }
    except ValueError:
        return {}  # not the same questions
    sizes = {member: len(one.values) for member, one in by_task[first].items()}
    sign = 1 if better else -1
    for by_size in (True, False):
        weights = group_weights(sizes, by_size)
        means = {s: sum(weights[t] * one.mean for t, one in tasks.items()) for s, tasks in by_task.items()}
        if all(abs(sign * means[subject] - cells[subject].value) < CLOSE for subject in cells):
            return {
                subject: difference(parts, [weights[member] for member in members], f"{name} {metric} {filter_name}")
                for subject, parts in pairs.items()
            }
    return {}  # no mean over questions


def _questions(results: LmResults, task: str, filter_name: str) -> list[Mapping[str, Any]]:
    samples = results["samples"].get(task, [])
    return [sample for sample in samples if sample.get("filter", "none") == filter_name]


def scores_of(results: LmResults, task: str, metric: str, filter_name: str, better: bool = True) -> Scores | None:
    """Values by question, negated where lower is better; None if the metric has none per question."""
    questions = _questions(results, task, filter_name)
    values = [question.get(metric) for question in questions]
    if not values or not all(isinstance(value, bool | int | float | np.number) for value in values):
        return None
    ids = tuple(f"{question['doc_id']}:{question.get('doc_hash', '')}" for question in questions)
    return Scores(ids, (1 if better else -1) * np.array(values, dtype=float))
