"""Studies on the miniature: their arms are valid, and their statistics right."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.studies.miniature.recipe import write_config, write_templates
from bohdi_ray.studies.miniature.sizes import TINY
from bohdi_ray.studies.miniature.study import (
    CONTRASTS,
    MEANS,
    STUDIES,
    TOTALS,
    config_of,
    contrasts,
    figures_of,
    missing,
    show,
    show_contrasts,
    summary,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A miniature without its weights."""
    out = tmp_path_factory.mktemp("miniature")
    write_templates(out)
    write_config(TINY, 0, out)
    return out


@pytest.mark.parametrize(("study", "arm"), [(study, arm) for study, arms in STUDIES.items() for arm in arms])
def test_every_arm_is_a_configuration(built, tmp_path, study, arm):
    config = config_of(built, STUDIES[study][arm], 7, tmp_path / "run")
    assert config.seed == 7 and config.run_dir == str(tmp_path / "run")
    assert len(config.sources) == {"2 sources": 2, "1 source": 1}.get(arm, 3)


@pytest.mark.parametrize("study", STUDIES)
def test_no_two_arms_of_a_study_are_the_same(built, tmp_path, study):
    arms = [config_of(built, settings, 0, tmp_path).model_dump_json() for settings in STUDIES[study].values()]
    assert len(set(arms)) == len(arms)


ARMS = {"a": [], "b": ["stop.rounds=2"]}


A, B = ARMS.values()


def result(world, seed, arm, after, lost=0):
    ones = dict.fromkeys((*MEANS, *TOTALS), 1)
    return ones | {"world": world, "seed": seed, "settings": ARMS[arm], "after": after, "lost": lost}


def test_what_was_run_is_not_run_again():
    done = [result(0, 0, "a", 0.5), result(0, 0, "b", 0.5), result(1, 0, "b", 0.5)]
    assert list(missing(done, [A, B], [0, 1], [0])) == [(1, [(0, A)])]
    assert list(missing([], [A, B], [2], [0, 1])) == [(2, [(0, A), (0, B), (1, A), (1, B)])]


def test_what_several_studies_want_is_run_once():
    assert list(missing([], [A, B, A], [0], [3])) == [(0, [(3, A), (3, B)])]
    wanted = [settings for arms in STUDIES.values() for settings in arms.values()]
    (_, runs) = next(iter(missing([], wanted, [0], [0])))
    assert len(runs) < len(wanted) and all(settings in [one for _, one in runs] for settings in wanted)


def test_an_arm_that_means_something_else_by_now_is_run_again():
    done, other = [result(0, 0, "a", 0.5), result(0, 0, "b", 0.5)], {**ARMS, "b": ["stop.rounds=3"]}
    assert list(missing(done, list(other.values()), [0], [0])) == [(0, [(0, ["stop.rounds=3"])])]
    assert summary(done, other)["arms"].keys() == {"a"}


def test_differences_are_paired_by_world_and_seed():
    results = [result(world, 0, "a", 0.1 * world, lost=world) for world in range(4)]
    results += [result(world, 0, "b", 0.1 * world + 0.2, lost=1) for world in (1, 2, 3)]
    results.append(result(9, 9, "b", 0.9))  # has no partner, and neither has world 0
    plain = summary(results, {**ARMS, "never run": ["seed=1"]})
    assert plain["pairs"] == [(1, 0), (2, 0), (3, 0)] and plain["arms"].keys() == {"a", "b"}
    assert (plain["arms"]["a"]["after"], plain["arms"]["b"]["after"]) == pytest.approx((0.2, 0.4))
    difference = plain["arms"]["b"]["after_less_first"]
    assert difference["mean"] == pytest.approx(0.2) and difference["low"] == pytest.approx(difference["high"])
    lost = plain["arms"]["b"]["lost_less_first"]
    # -0, -1, -2 with Student's t: 4.303 at 2 degrees of freedom, standard error 1 / sqrt(3).
    assert (lost["mean"], lost["high"]) == pytest.approx((-1.0, -1.0 + 4.303 / 3**0.5), rel=1e-3)
    assert "over 3 pairs" in show(plain) and "+0.200 [+0.200, +0.200]" in show(plain)


def test_questions_are_answered_by_the_pairs_of_their_own_arms():
    arms = {**ARMS, "c": ["seed=2"]}
    results = [result(world, 0, "a", 0.1 * world, lost=world) for world in range(4)]
    results += [result(world, 0, "b", 0.1 * world + 0.2, lost=1) for world in (1, 2, 3)]
    results.append({**result(3, 0, "b", 0.9), "settings": arms["c"]})
    questions = {
        "b less a": {"b": 1, "a": -1},
        "c less both": {"c": 1, "a": -0.5, "b": -0.5},
        "none": {"d": 1, "a": -1},
    }
    found = contrasts(results, arms, questions)
    assert found.keys() == {"b less a", "c less both"}
    first, second = found.values()
    assert first["num_pairs"] == 3 and first["after"]["mean"] == pytest.approx(0.2)
    # -0, -1, -2, three questions: Student's t at 1 - 0.05 / 3 with 2 degrees of freedom, from tables 7.649.
    assert first["lost"]["mean"] == pytest.approx(-1.0)
    assert first["lost"]["high"] == pytest.approx(-1.0 + 7.649 / 3**0.5, rel=1e-3)
    assert second["num_pairs"] == 1 and second["after"]["mean"] == pytest.approx(0.9 - (0.3 + 0.5) / 2)
    assert second["after"]["low"] is None and "b less a" in show_contrasts(found)


def test_the_questions_of_a_study_are_about_its_arms():
    for study, questions in CONTRASTS.items():
        for weights in questions.values():
            assert weights.keys() <= STUDIES[study].keys()
            assert sum(weights.values()) == pytest.approx(0)


def test_intervals_are_wider_where_more_arms_are_compared():
    arms = {**ARMS, "c": ["seed=2"], "d": ["seed=3"]}
    results = [result(world, 0, "a", 0.0) for world in range(3)]
    results += [{**result(w, 0, "b", 0.1 * w), "settings": arms[arm]} for arm in "bcd" for w in range(3)]
    widths = []
    for some in (("a", "b"), ("a", "b", "c", "d")):
        difference = summary(results, {arm: arms[arm] for arm in some})["arms"]["b"]["after_less_first"]
        widths.append(difference["high"] - difference["low"])
    assert widths[1] > 1.5 * widths[0]


def test_one_pair_has_no_interval_and_is_json():
    plain = summary([result(0, 0, "a", 0.1), result(0, 0, "b", 0.4)], ARMS)
    assert plain["arms"]["b"]["after_less_first"]["low"] is None
    assert "NaN" not in json.dumps(plain, allow_nan=False) and "+0.300 " in show(plain)


def test_where_nothing_was_run_nothing_is_told():
    assert summary([], ARMS) == {"pairs": [], "arms": {}} and "0 pairs" in show(summary([], ARMS))


def test_a_report_gives_the_figures_of_a_study():
    """Every figure that the tables need is there, by its place in the report."""
    plain = {
        "overall": {"before": 0.1, "after": 0.5, "gain": 0.4, "gained": 9, "lost": 2},
        "untaught": {"before": 0.0, "after": 0.2},
        "num_samples": 40,
        "tree": {"levels": [{"found": 3}, {"found": 4}], "invented": ["odd"], "misplaced": ["one", "two"]},
        "judge": {"right_rows": 30, "right_there": 35, "chosen": 28, "contested": 12, "chosen_contested": 7},
    }
    assert figures_of(plain) == {
        "before": 0.1, "after": 0.5, "gained": 9, "lost": 2, "untaught": 0.2, "samples": 40, "found": 7,
        "invented": 1, "misplaced": 2, "right_rows": 30, "right_there": 35, "chosen": 28, "contested": 12,
        "chosen_contested": 7,
    }  # fmt: skip
    assert set(figures_of(plain)) == {*MEANS, *TOTALS}
