"""Which sources take part while some are down."""

import itertools

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.source_availability import SourceAvailability, least_sources, pauses
from bohdi_ray.errors import EngineFailed

SOURCES = ("ada", "bob", "cyd")


def test_sources_are_left_out_and_taken_back_in_the_configurations_order():
    attendance = SourceAvailability(SOURCES, 1)
    assert attendance.present == SOURCES
    assert attendance.leave_out("ada", "no start") and attendance.leave_out("bob", "gone")
    assert attendance.present == ("cyd",)
    assert attendance.take_back("bob") and attendance.present == ("bob", "cyd")
    assert attendance.take_back("ada") and attendance.present == SOURCES


def test_what_is_known_already_is_no_news():
    attendance = SourceAvailability(SOURCES, 1)
    assert not attendance.take_back("ada")
    assert attendance.leave_out("ada", "no start")
    assert not attendance.leave_out("ada", "still none")
    assert attendance.present == ("bob", "cyd")


def test_fewer_than_the_least_number_is_refused_with_the_reasons_and_what_to_do():
    attendance = SourceAvailability(SOURCES, 2)
    attendance.leave_out("ada", "no start")
    with pytest.raises(EngineFailed, match=r"1 of 3 sources are left, and the run needs 2") as refused:
        attendance.leave_out("cyd", "connection refused")
    for part in ("bohdi resume", "lower harvest.min_sources", "ada: no start", "cyd: connection refused"):
        assert part in str(refused.value)


def test_why_the_last_one_went_is_said_before_what_follows_from_it():
    attendance = SourceAvailability(("ada", "bob"), 1)
    attendance.leave_out("ada", "waited 600 s for capacity for engine ada-0")
    with pytest.raises(EngineFailed) as refused:
        attendance.leave_out("bob", "waited 600 s for capacity for engine bob-0")
    text = str(refused.value)
    assert text.index("for capacity for engine bob-0") < text.index("0 of 2 sources are left")
    assert "ada: waited 600 s" in text
    assert "lower harvest.min_sources" not in text, "it is 1 and cannot be lower"


def test_the_last_source_is_never_left_out():
    with pytest.raises(EngineFailed):
        SourceAvailability(("ada",), 1).leave_out("ada", "gone")


@pytest.mark.parametrize(
    ("min_sources", "policy", "least"),
    [(1, "leader", 1), (1, "likelihood", 2), (1, "others", 2), (1, "consensus", 2), (2, "leader", 2), (3, "others", 3)],
)
def test_where_answers_of_several_sources_are_compared_two_are_needed(min_sources, policy, least):
    sections = {
        "run_dir": "./none",
        "sources": [{"name": name, "model": "./none"} for name in SOURCES],
        "target": {"name": "student", "model": "./none"},
        "harvest": {"min_sources": min_sources},
        "judge": {"kind": policy},
    }
    assert least_sources(FusionConfig.model_validate(sections)) == least


def test_pauses_double_up_to_the_longest():
    assert list(itertools.islice(pauses(30, 600), 7)) == [30, 60, 120, 240, 480, 600, 600]
