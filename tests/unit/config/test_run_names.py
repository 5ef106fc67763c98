"""What actors and tasks of a run are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.names import RunNames, run_name


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("runs/quickstart-20260101", "quickstart-20260101"),
        ("/data/runs/first/", "first"),
        ("s3://bucket/runs/big?region=eu-west-1&scheme=http://x/y", "big"),
        ("runs/told to prometheus", "told_to_prometheus"),
        ("/", "run"),
    ],
)
def test_a_run_is_called_like_its_folder(location, name):
    assert run_name(location) == name


@given(st.text())
def test_a_runs_name_is_short_and_has_no_slash(location):
    assert re.fullmatch(r"[\w.+-]{1,64}", run_name(location))


def test_names_say_what_an_actor_or_task_is():
    names = RunNames.of("runs/first")
    assert names.engine("ada", "ada-0", is_target=False) == "bohdi/first/source/ada/0"
    assert names.engine("my-model", "my-model-12", is_target=False) == "bohdi/first/source/my-model/12"
    assert names.engine("target", "target-1", is_target=True) == "bohdi/first/target/1"
    assert names.named("tree") == "bohdi/first/tree"
    assert names.task("harvest", 3, [1]) == "bohdi/first/harvest r3 s1"
    assert names.task("harvest", 3, [2, 1, 2]) == "bohdi/first/harvest r3 s1+2"
    assert names.task("sprout", 3) == "bohdi/first/sprout r3"


def test_two_drivers_in_folders_of_one_name_do_not_meet():
    one, other = (RunNames.of(f"{parent}/first").actor("bohdi/first/tree") for parent in ("a", "b"))
    assert one["name"] == other["name"] and one["namespace"] != other["namespace"]
