"""The report of a fused miniature: every figure against a case counted by hand."""

from __future__ import annotations

import pytest

from bohdi_ray.records import Candidate, DomainPath, RehearsalRow, Sample, Verdict
from bohdi_ray.studies.miniature.figures import draw_report
from bohdi_ray.studies.miniature.report import judge_figures, rehearsal_figures, report, text_of, tree_figures
from bohdi_ray.studies.miniature.world import Fact, World, questions

A, B = ("Dire", "Birds"), ("Dire", "Mirror Words")
FACTS = (
    Fact(A, ("a1?", "a2?"), "a right", ("a wrong",)),
    Fact(B, ("b1?", "b2?"), "b right", ("b wrong",), "reversal"),
    Fact(B, ("u1?", "u2?"), "u right", ("u wrong",), "reversal", False),
)
WORLD = World(1, ("land", "subject"), (A, B), FACTS, {"one": ("knows",) * 3, "target": ("declines",) * 3}, {})
NOTHING = dict.fromkeys((question for _, question in questions(WORLD)), "I do not know.")


def answers(**changes: str) -> dict[str, str]:
    return NOTHING | {f"{question}?": text for question, text in changes.items()}


def sample_of(path: DomainPath, question: str, texts: dict[str, str], winner: str, rejected: str = "") -> Sample:
    candidates = tuple(
        Candidate(model, 0, text, 5, "stop", "too_short" if model == rejected else None)
        for model, text in texts.items()
    )
    return Sample(
        sample_id=f"{path}/{question}",
        round=0,
        step=0,
        path=path,
        style="plain",
        leader="one",
        question=question,
        question_hash=question,
        candidates=candidates,
        verdict=Verdict("consensus", None, {}, (), (), winner, None),
        reward=1,
        heldout=False,
        template_hash="",
        sampling={},
        seed=0,
        started_at=0.0,
        finished_at=0.0,
    )


BEFORE = answers(a1="a right", b1="b wrong")
AFTER = answers(a2="a right", b1="b right", u1="u right")


def test_gained_and_lost_are_counted_apart_and_leaves_count_alike():
    plain = report(WORLD, {0: BEFORE, 1: NOTHING, 2: AFTER}, {"one": answers(b1="b right")}, [], [])
    assert plain["overall"] == {
        "before": pytest.approx(0.25),
        "after": pytest.approx(0.5),
        "gain": pytest.approx(0.25),
        "questions": 4,
        "gained": 2,
        "lost": 1,
    }
    birds, words = plain["domains"]
    assert (birds["before"], birds["after"], birds["gained"], birds["lost"]) == (0.5, 0.5, 1, 1)
    assert (words["before"], words["after"], words["rule"], words["questions"]) == (0.0, 0.5, "reversal", 2)
    assert (birds["best_source"], words["best_source"]) == (0.0, 0.5)
    assert [entry["accuracy"] for entry in plain["versions"]] == [0.25, 0.0, 0.5]
    assert plain["sources"] == {"one": 0.25}


def test_untaught_instances_are_reported_apart_and_left_out_once_they_were_sampled():
    plain = report(WORLD, {0: BEFORE, 1: AFTER}, {"one": answers(u2="u right", u1="u right")}, [], [])
    assert plain["untaught"] == {
        "questions": 2,
        "left_out": 0,
        "before": 0.0,
        "after": 0.5,
        "sources": {"one": 1.0},
    }
    sampled = [sample_of(B, "u2?", {"one": "u right"}, "one")]
    plain = report(WORLD, {0: BEFORE, 1: AFTER}, {"one": NOTHING}, sampled, [])
    assert (plain["untaught"]["questions"], plain["untaught"]["left_out"]) == (0, 2)


def test_found_domains_are_true_misplaced_or_invented():
    found = [("Dire",), A, ("Birds",), ("Birds", "Dire"), ("Dire", "Spoons")]
    plain = tree_figures(WORLD, found)
    assert plain["levels"] == [
        {"level": "land", "true": 1, "found": 1},
        {"level": "subject", "true": 2, "found": 1},
    ]
    assert plain["misplaced"] == [["Birds"], ["Birds", "Dire"]] and plain["invented"] == [["Dire", "Spoons"]]


def test_a_judge_is_measured_where_a_right_answer_is_eligible():
    samples = [
        sample_of(A, "a1?", {"one": "a right", "two": "a wrong"}, "one"),
        sample_of(A, "a2?", {"one": "a right", "two": "a wrong"}, "two"),
        sample_of(B, "b1?", {"one": "b right", "two": "b right"}, "two"),  # nothing to decide
        sample_of(B, "b2?", {"one": "b wrong", "two": "c"}, "one"),  # nothing right
        sample_of(B, "u1?", {"one": "u wrong", "two": "u right"}, "one", rejected="two"),  # the right one may not win
        sample_of(B, "z?", {"one": "z"}, "one"),
    ]
    assert judge_figures(WORLD, samples) == {
        "unknown_questions": 1,
        "right_there": 3,
        "chosen": 2,
        "contested": 2,
        "chosen_contested": 1,
        "right_rows": 2,
    }
    plain = report(WORLD, {0: BEFORE, 1: AFTER}, {"one": NOTHING}, samples, [])
    assert [domain["samples"] for domain in plain["domains"]] == [2, 4]


def test_tables_and_figures_show_what_was_counted(tmp_path):
    plain = report(WORLD, {0: BEFORE, 1: AFTER}, {"one": NOTHING}, [], [("Dire",), ("Bad\x1b[2J",)])
    text = text_of(plain)
    assert "0.250" in text and "0.500" in text and "Dire / Mirror Words (reversal)" in text
    assert "land 1 of 1, subject 0 of 2" in text and "\x1b" not in text
    draw_report(plain, tmp_path / "figure")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "Mirror Words" in (tmp_path / "figure.svg").read_text()


def test_what_rehearsal_trains_on_is_held_against_the_truth_each_question_once():
    texts = [("a1?", "a right"), ("a1?", "a right"), ("a2?", "a wrong"), ("b1?", "b right"), ("what?", "a right")]
    rows = [RehearsalRow(f"r{i}", A, "one", question, text, 0.95, 5, None) for i, (question, text) in enumerate(texts)]
    assert rehearsal_figures(WORLD, rows) == {"questions": 4, "right": 2, "unknown_questions": 1}
    told = text_of(report(WORLD, {0: BEFORE}, {"one": AFTER}, [], [], rows))
    assert "rehearsal: 4 questions whose answer the target was sure of before, 2 of them rightly" in told
    assert "rehearsal" not in text_of(report(WORLD, {0: BEFORE}, {"one": AFTER}, [], []))
