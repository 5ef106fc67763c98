"""Rows and differences from results in lm-eval's own form."""

from __future__ import annotations

import pytest

from bohdi_ray.evaluation.comparing.interference import interference
from bohdi_ray.evaluation.comparing.report import interference_text, table_text
from bohdi_ray.evaluation.comparing.results import rows_of, usual_rows


def results(acc: dict[str, list[int]], **more):
    """Of multiple-choice tasks: by task, the result on every question."""
    figures = {
        task: {"alias": task, "acc,none": sum(v) / len(v), "acc_stderr,none": 0.1, "acc_norm,none": 0.0}
        for task, v in acc.items()
    }
    samples = {
        task: [
            {"doc_id": i, "doc_hash": f"h{i}", "filter": "none", "acc": float(x), "acc_norm": 0.0}
            for i, x in enumerate(v)
        ]
        for task, v in acc.items()
    }
    better = {task: {"acc": True, "acc_norm": True} for task in acc}
    return {"results": figures | more, "samples": samples, "higher_is_better": better}


BEFORE = {"one": [1, 1, 0, 0], "two": [1, 0]}
AFTER = {"one": [1, 0, 1, 1], "two": [0, 0]}


def test_each_task_and_metric_is_a_row_with_its_paired_difference():
    rows = rows_of({"a": results(BEFORE), "b": results(AFTER)}, {})
    assert [(row.task, row.metric) for row in rows] == [
        ("one", "acc"),
        ("one", "acc_norm"),
        ("two", "acc"),
        ("two", "acc_norm"),
    ]
    first = rows[0]
    assert (first.num_questions, first.cells["a"].value, first.cells["b"].value) == (4, 0.5, 0.75)
    d = first.differences["b"]
    assert (d.mean, d.num_gained, d.num_lost) == (0.25, 2, 1) and "a" not in first.differences


@pytest.mark.parametrize(("by_size", "before", "after"), [(True, 0.5, 0.5), (False, 0.5, 0.375)])
def test_a_group_is_weighted_as_lm_eval_weighted_it(by_size, before, after):
    def with_group(acc, value):
        return results(acc, group={"acc,none": value, "acc_stderr,none": "N/A"})

    found = {"a": with_group(BEFORE, before), "b": with_group(AFTER, after)}
    group = rows_of(found, {"group": ["one", "two"]})[0]
    assert group.is_group and group.num_questions == 6 and group.cells["a"].standard_error is None
    assert group.differences["b"].mean == pytest.approx(after - before)


def test_a_metric_that_is_no_mean_over_questions_is_shown_without_a_difference():
    def with_perplexity(value):
        one = results(BEFORE)
        one["results"]["one"]["word_perplexity,none"] = value
        for sample in one["samples"]["one"]:
            sample["word_perplexity"] = (-3.0, 7)
        return one

    rows = {row.metric: row for row in rows_of({"a": with_perplexity(9.0), "b": with_perplexity(8.0)}, {})}
    assert rows["word_perplexity"].differences == {} and rows["word_perplexity"].cells["b"].value == 8.0
    assert "not paired" in table_text(list(rows.values()), ["a", "b"])


def test_where_lower_is_better_a_lower_score_is_a_gain():
    before, after = results({"one": [1, 1]}), results({"one": [0, 1]})
    for one in (before, after):
        one["higher_is_better"] = {"one": {"acc": False, "acc_norm": True}}
    row = rows_of({"a": before, "b": after}, {})[0]
    assert row.differences["b"].mean == 0.5 and row.cells["b"].value == 0.5
    assert "-0.500" in table_text([row], ["a", "b"]), "shown in the metric's own direction"


def test_the_usual_metric_of_a_task():
    rows = rows_of({"a": results({"hellaswag_local": [1], "arc": [1]})}, {})
    assert {task: row.metric for task, row in usual_rows(rows).items()} == {"hellaswag_local": "acc_norm", "arc": "acc"}
    chosen = usual_rows(rows, {"arc": "acc_norm", "hellaswag_local": "acc"})
    assert {task: row.metric for task, row in chosen.items()} == {"hellaswag_local": "acc", "arc": "acc_norm"}


def test_a_single_model_has_a_table_without_differences():
    text = table_text(rows_of({"a": results(BEFORE)}, {}), ["a"])
    assert "0.500 ± 0.100" in text and "less" not in text


def test_many_single_tasks_are_hidden_behind_their_group():
    acc = {f"task{i}": [1, 0] for i in range(20)}
    found = {"a": results(acc, all={"acc,none": 0.5})}
    rows = rows_of(found, {"all": list(acc)})
    short, full = table_text(rows, ["a"]), table_text(rows, ["a"], full=True)
    assert "task7" not in short and "20 single tasks" in short and "--full" in short and "task7" in full


def test_interference_is_told_with_what_chance_gives():
    rows = rows_of({"a": results(BEFORE), "b": results(AFTER)}, {})
    found = interference({task: row.differences["b"] for task, row in usual_rows(rows).items()})
    text = interference_text(found, "b", "a", ("c", 0.5))
    assert "1 of 2 tasks are below it, 0 beyond" in text and "by chance alone" in text
    assert "tasks below, against c: -50 %" in text and "two: -0.500" in text
