"""What ways of judging choose among the same answers, against cases counted by hand."""

from __future__ import annotations

import math

import pytest

from bohdi_ray.studies.miniature.judging import RULES, Contest, contests, show, tally
from tests.unit.miniature.test_miniature_report import WORLD, A, sample_of

RIGHT = {"one": "a wrong", "two": "a right", "target": "a right"}


def logs(**probabilities: float) -> dict[str, float]:
    return {author: math.log(p) for author, p in probabilities.items()}


def contest_of(number: int, leader: str, texts: dict[str, str] = RIGHT) -> Contest:
    return Contest(f"{number}", "a1?", "a right", leader, texts, 0)


# `one` believes in its own wrong answer, the others find the right one likelier.
ROWS = {
    "one": logs(one=0.9, two=0.5, target=0.4),
    "two": logs(one=0.1, two=0.9, target=0.8),
    "three": logs(one=0.3, two=0.6, target=0.6),
    "target": logs(one=0.2, two=0.7, target=0.9),
}


def test_only_samples_with_a_right_and_another_eligible_answer_are_contests():
    every = [
        sample_of(A, "a1?", RIGHT, "one"),
        sample_of(A, "a2?", RIGHT, "one", rejected="one"),  # the wrong answer is not eligible
        sample_of(A, "a1?", {"one": "a wrong", "two": "a wrong", "target": "no"}, "one"),  # nobody is right
        sample_of(A, "never asked?", RIGHT, "one"),
    ]
    (only,) = contests(WORLD, every, "target")
    assert only.texts == RIGHT and only.right == "a right" and only.leader == "one" and only.target_version == 0


def test_each_rule_scores_as_its_judge_would():
    scores = {rule: scores_of(ROWS, "one", "target") for rule, scores_of in RULES.items()}
    assert scores["the leader's own likelihood"] == pytest.approx(ROWS["one"])
    # Ranks: of `one` by two (2), three (3), target (2); of `two` by one (1), three (1.5), target (1).
    assert scores["likelihood"]["one"] == pytest.approx(-7 / 3)
    assert scores["likelihood"]["two"] == pytest.approx(-3.5 / 3)
    assert scores["consensus"] == pytest.approx({"one": 0.2, "two": 0.55, "target": 0.6})
    assert scores["mean probability over all sources"] == pytest.approx({"one": 1.3 / 3, "two": 2 / 3, "target": 0.6})


def test_right_choices_and_those_of_the_leaders_own_text_are_counted():
    found = [(contest_of(number, leader), ROWS) for number, leader in enumerate(("one", "two", "three"))]
    plain = tally(found, "target")
    assert plain["contests"] == 3 and plain["leader_eligible"] == 2
    # The leader `one` chooses its own wrong answer; `two` its own right one; `three` a right one, having none itself.
    assert plain["rules"]["the leader's own likelihood"] == {"right": 2, "own": 2}
    assert plain["rules"]["consensus"] == {"right": 3, "own": 1}
    assert plain["rules"]["chance"] == pytest.approx({"right": 2.0, "own": 1.0})
    text = show(plain)
    assert "consensus" in text and "1.00" in text and "0.67" in text


def test_answers_that_tie_go_to_a_source_as_with_the_judge():
    texts = {"one": "a right", "target": "a wrong"}
    rows = {"one": logs(one=0.5, target=0.5), "two": logs(one=0.5, target=0.5), "target": logs(one=0.5, target=0.5)}
    assert tally([(contest_of(0, "one", texts), rows)], "target")["rules"]["consensus"]["right"] == 1
