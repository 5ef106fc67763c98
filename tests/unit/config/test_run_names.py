"""What actors and tasks of a run are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.names import RunNames, ascii_label, run_name


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("runs/quickstart-20260101", "quickstart-20260101"),
        ("/data/runs/first/", "first"),
        ("s3://bucket/runs/big?region=eu-west-1&scheme=http://x/y", "big"),
        ("runs/told to prometheus", "told_to_prometheus"),
        ("/", "run"),
        ("runs/r\u00e4ume", "xn--rume-loa"),
    ],
)
def test_a_run_is_called_like_its_folder(location, name):
    assert run_name(location) == name


@given(st.text())
def test_a_runs_name_is_short_and_has_no_slash(location):
    assert re.fullmatch(r"[\w.+-]{1,64}", run_name(location), re.ASCII)


def test_names_say_what_an_actor_or_task_is():
    names = RunNames.of("runs/first")
    assert names.engine("ada", "ada-0", is_target=False) == "bohdi/first/source/ada/0"
    assert names.engine("my-model", "my-model-12", is_target=False) == "bohdi/first/source/my-model/12"
    assert names.engine("target", "target-1", is_target=True) == "bohdi/first/target/1"
    assert names.named("tree") == "bohdi/first/tree"
    assert names.named("harvest") == "bohdi/first/harvest"  # whatever the round: each name is a series of metrics


@given(st.text(), st.text())
def test_labels_are_ascii_and_no_two_texts_share_one(one, other):
    assert ascii_label(one).isascii()
    assert (ascii_label(one) == ascii_label(other)) == (one == other)


@pytest.mark.parametrize("text", ["r\u00e4ume", "\u6570\u5b66", "xn--rume-loa", "a b", "", "\ud800"], ids=ascii)
def test_a_label_gives_its_text_back(text):
    label = ascii_label(text)
    assert (label[4:].encode().decode("punycode") if label.startswith("xn--") else label) == text


def test_two_long_names_that_begin_alike_stay_apart():
    one, other = (run_name("runs/" + 80 * "x" + end) for end in "ab")
    assert one != other and one.startswith(40 * "x")


def test_actors_and_tasks_of_a_run_in_any_script_have_names_of_ascii():
    for folder in ("r\u00e4ume", "\u6570\u5b66", "\u043f\u0440\u043e\u0433\u043e\u043d 1", "a\tb"):
        names = RunNames.of(f"runs/{folder}")
        assert names.engine("ada", "ada-0", is_target=False).isascii() and names.named("harvest").isascii()


def test_two_drivers_in_folders_of_one_name_do_not_meet():
    one, other = (RunNames.of(f"{parent}/first").actor("bohdi/first/tree") for parent in ("a", "b"))
    assert one["name"] == other["name"] and one["namespace"] != other["namespace"]
