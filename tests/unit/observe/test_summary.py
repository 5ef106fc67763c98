"""The summary's figures, its JSON and its table."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
import rich.console
from scipy import stats

from bohdi_ray.observe.console.summary_table import as_table, as_text
from bohdi_ray.observe.summary import (
    RoundSummary,
    SampleFigures,
    SelfPreference,
    Summary,
    figures_of,
    newcombe,
    wilson,
)
from bohdi_ray.records import Candidate, Sample, Verdict, question_hash, ticket_id


def sample(index: int, leader: str, winner: str, scored: str, question: str | None = None, **changes: object) -> Sample:
    """`scored`: the eligible models, one letter each."""
    question = question or f"{index * 7919} differs from {index * 104729} in what way, {index}?"
    made = Sample(
        sample_id=ticket_id(0, 0, index),
        round=0,
        step=0,
        path=("Science",),
        style="plain",
        leader=leader,
        question=question,
        question_hash=question_hash(question),
        candidates=tuple(Candidate(m, 0, "text", 1, "stop", None if m in scored else "truncated") for m in "abt"),
        verdict=Verdict("leader", leader, dict.fromkeys(scored, 0.5), (), (), winner, 0.0),
        reward=int(winner != "t"),
        heldout=False,
        template_hash="",
        sampling={},
        seed=0,
        started_at=0,
        finished_at=0,
    )
    return replace(made, **changes)


def a_summary(**changes: object) -> Summary:
    made = Summary(
        stop_reason="3 rounds",
        rounds=(
            RoundSummary(0, 0, 10, 8, 1, 6, {"no valid question": 2}, {"question": 80, "answer": 800}, 8, 2.0, 1.5),
            RoundSummary(1, 0, 10, 4, 0, 2, {"no valid question": 5, "duplicate": 1}, {"answer": 400, "judge": 24}, 4),
        ),
        samples=SampleFigures(12, 1, {"a": 5, "b": 3, "t": 4}, {"a": SelfPreference(3, 4, 2, 8)}, 0.25),
        seconds={"start_up": 2.0, "harvest": 10.0, "training": 5.0, "weights": 1.0, "overlap": 4.0, "total": 14.0},
        overlap_share=0.8,
        heldout_loss_before=2.0,
        heldout_loss_after=1.5,
        domains_by_level=(2, 4, 9),
        tree_digest="abc",
        paths={"run": "/runs/1"},
    )
    return replace(made, **changes)


def test_json_holds_the_promised_keys_as_plain_types():
    record = a_summary().to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["heldout_loss_before"], record["heldout_loss_after"], record["heldout_loss_fall"]) == (
        2.0,
        1.5,
        0.25,
    )
    assert [(r["accepted"], r["weights_version"], r["reward_rate"]) for r in record["rounds"]] == [
        (8, 0, 0.75),
        (4, 0, 0.5),
    ]
    assert record["tokens_per_accepted_sample"] == {"question": 80 / 12, "answer": 100.0, "judge": 2.0}
    assert record["failures"] == {"no valid question": 7, "duplicate": 1}
    assert set(record["seconds"]) == {"start_up", "harvest", "training", "weights", "overlap", "total"}
    assert record["tree_digest"] == "abc" and record["domains_by_level"] == [2, 4, 9]
    assert record["self_preference"]["a"]["difference"] == 0.5
    assert record["reward_rate"] == 8 / 12


def test_a_run_that_ended_at_once_still_has_a_summary_and_a_table():
    empty = a_summary(
        rounds=(RoundSummary(0, 0, 0, 0),),
        samples=figures_of([], ["a"], "t"),
        overlap_share=None,
        heldout_loss_before=None,
        heldout_loss_after=None,
        domains_by_level=(),
    )
    record = json.loads(json.dumps(empty.to_json(), allow_nan=False))
    assert record["reward_rate"] is None and record["near_duplicate_rate"] is None
    assert record["rounds"][0]["reward_rate"] is None
    assert "unknown of samples won" in as_text(empty)


def test_a_loss_that_is_not_finite_becomes_null():
    record = a_summary(heldout_loss_after=math.nan).to_json()
    assert record["heldout_loss_after"] is None and record["heldout_loss_fall"] is None
    assert "nan" in as_text(a_summary(heldout_loss_after=math.nan))


def test_wins_and_self_preference_are_counted_where_the_answer_could_win():
    made = [
        sample(0, "a", "a", "abt"),
        sample(1, "a", "b", "abt"),
        sample(2, "b", "a", "abt"),
        sample(3, "b", "b", "bt"),  # a's answer was not eligible
        sample(4, "b", "t", "t"),  # nobody judged
        sample(5, "b", "t", "at", heldout=True),
    ]
    figures = figures_of(made, ["a", "b"], "t")
    assert figures.wins == {"a": 2, "b": 2, "t": 2}
    assert (figures.num_samples, figures.num_heldout) == (6, 1)
    assert figures.self_preference["a"] == SelfPreference(1, 2, 1, 2)
    assert figures.self_preference["b"] == SelfPreference(1, 2, 1, 2)


def test_a_source_that_was_left_out_is_shown_with_the_samples_that_it_missed():
    whole = sample(0, "b", "b", "abt")
    missed = replace(whole, candidates=whole.candidates[1:])
    figures = figures_of([missed, missed, sample(1, "b", "b", "bt")], ["a", "b"], "t")  # not eligible the last time
    assert figures.absent == {"a": 2, "b": 0}
    assert a_summary(samples=figures).to_json()["absent"] == {"a": 2, "b": 0}
    assert "left out of 2 samples" in as_text(a_summary(samples=figures))
    assert "left out" not in as_text(a_summary())


def test_nearly_the_same_question_counts_within_its_leaf_only():
    first = "How does a lens bend light in a microscope?"
    made = [
        sample(0, "a", "a", "at", first),
        sample(1, "a", "a", "at", "In a microscope, how does a LENS bend light?!"),
        sample(2, "a", "a", "at", "Why do markets fail when information is unequal?"),
        sample(3, "a", "a", "at", first, path=("Art",)),
    ]
    assert figures_of(made, ["a"], "t").near_duplicate_rate == 0.25


def test_self_preference_without_both_kinds_of_samples_is_unknown():
    record = SelfPreference(1, 2, 0, 0).to_json()
    assert record["difference"] is record["low"] is record["high"] is None


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (450, 1000)])
def test_wilson_equals_scipy(successes: int, trials: int):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high))


def test_newcombe_equals_the_published_examples():
    # Newcombe (1998), Statistics in Medicine 17:873-890, table II, method 10, cases (a) and (c)
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(6, 7, 2, 7) == pytest.approx((0.0582, 0.8062), abs=5e-5)


def test_the_table_shows_the_figures_and_escapes_text():
    hostile = a_summary(stop_reason="[bold red]x[/bold red] [/] \x1b[2J\nforged line", tree_digest="\u202eabc")
    console = rich.console.Console(width=200, record=True, file=io.StringIO())
    console.print(as_table(hostile))
    for text in (console.export_text(), as_text(hostile)):
        assert "[bold red]x[/bold red] [/]" in text and "\x1b" not in text and "\u202e" not in text
        assert not any(line.startswith("forged") for line in text.splitlines())
        for figure in (
            "2.000 -> 1.500 (-25.0%)",
            "2 / 4 / 9",
            "while leading +50%",
            "100.0",
            "80% of the shorter one",
        ):
            assert figure in text


def test_the_table_says_what_was_lost_before_a_ticket_and_after_a_row():
    rounds = [
        replace(round, abandoned={"no child": 3}, rejected_rows={"prompt_too_long": number, "too_long": 2})
        for number, round in enumerate(a_summary().rounds, start=1)
    ]
    lines = as_text(a_summary(rounds=tuple(rounds))).splitlines()
    said = {
        name: line for line in lines for name in ("walks without a domain", "training rows rejected") if name in line
    }
    assert "no child 6" in said["walks without a domain"]
    assert "too_long 4" in said["training rows rejected"] and "prompt_too_long 3" in said["training rows rejected"]
    assert "training rows rejected" not in as_text(a_summary())
