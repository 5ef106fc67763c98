"""An event whose checksum fits, in a place where it cannot come: refused, one test for each rule."""

from __future__ import annotations

import pytest
from hostile_journal import CONFIG, fusion
from msgspec.structs import replace

from bohdi_ray.errors import RunDirError
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import journal

Events = list[list[journal.AnyEvent]]


def first(events: Events, kind: type, number: int = 0) -> tuple[int, int]:
    """Segment and place of the event of this kind, counted from 0."""
    found = [(s, i) for s, segment in enumerate(events) for i, event in enumerate(segment) if isinstance(event, kind)]
    return found[number]


def with_fields(kind: type, **fields: object):
    def change(events: Events) -> None:
        segment, at = first(events, kind)
        events[segment][at] = replace(events[segment][at], **fields)

    return change


def without(kind: type):
    def change(events: Events) -> None:
        segment, at = first(events, kind)
        del events[segment][at]

    return change


def twice(kind: type):
    def change(events: Events) -> None:
        segment, at = first(events, kind)
        events[segment].insert(at, events[segment][at])

    return change


def early(event: journal.AnyEvent):
    """At the beginning of the second step of round 0."""

    def change(events: Events) -> None:
        events[1].insert(0, event)

    return change


def at_the_boundary(event: journal.AnyEvent):
    """Between the rows of round 0 and the opening of round 1."""

    def change(events: Events) -> None:
        segment, at = first(events, journal.RowsDrawn)
        events[segment].insert(at + 1, event)

    return change


def early_end(events: Events) -> None:
    """The first ticket's end, before the walks of its step are done."""
    segment, at = first(events, journal.Credited)
    end = events[segment].pop(at)
    walks, place = first(events, journal.WalksDone)
    events[walks].insert(place, end)


IMPOSSIBLE = {
    "a walk of another step": (with_fields(journal.Walked, step=1), "out of order"),
    "a walk that ends twice": (twice(journal.Walked), "ends twice"),
    "a walk to a node that is not there": (with_fields(journal.Walked, path=("Not", "There")), "KeyError"),
    "a walk that ends above the leaves": (with_fields(journal.Walked, path=()), "not a leaf"),
    "a walk that is missing": (without(journal.Walked), "has 3 walks of 4"),
    "an abandoned walk of another step": (early(journal.Abandoned(1, 0)), "out of order"),
    "walks that are done twice": (twice(journal.WalksDone), "out of order"),
    "a credit twice": (twice(journal.Credited), "not in flight"),
    "a credit to another leaf": (with_fields(journal.Credited, path=()), "belongs to another path"),
    "a credit of another ticket": (with_fields(journal.Credited, ticket_id="r0009-s000-t00000"), "not in flight"),
    "a credit too early": (early_end, "before the walks"),
    "a ticket without an end": (without(journal.Credited), "have no end"),
    "a failure twice": (twice(journal.Failed), "not in flight"),
    "a step committed twice": (twice(journal.StepCommitted), "out of turn"),
    "another step committed": (with_fields(journal.StepCommitted, step=1), "out of turn"),
    "a round closed too early": (early(journal.RowsDrawn(())), "closed too early"),
    "a round closed twice": (twice(journal.RowsDrawn), "or twice"),
    "a round that is not closed": (without(journal.RowsDrawn), "is opened during"),
    "a round left out": (at_the_boundary(journal.RoundOpened(2, 1)), "is opened during"),
    "ageing in an open round": (early(journal.Aged()), "in an open round"),
    "a rebirth in an open round": (early(journal.Reborn((), 1.0, 1.0, None, 0.0)), "in an open round"),
    "a rebirth of the root": (at_the_boundary(journal.Reborn((), 1.0, 1.0, None, 0.0)), "no arm"),
    "proposals at the boundary": (at_the_boundary(journal.Proposed("sprout/99", ())), "closed"),
    "an election at the boundary": (at_the_boundary(journal.Elected((), False, None, {})), "out of order"),
    "an arm closed at the boundary": (at_the_boundary(journal.UnkClosed(())), "out of order"),
    "a name with a slash": (with_fields(journal.Elected, winner="a/b"), "no name"),
    "an empty name": (with_fields(journal.Elected, winner=""), "no name"),
    "a name twice": (twice(journal.Elected), "born twice|KeyError"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_an_event_that_cannot_come_there_is_refused(kind):
    change, said = IMPOSSIBLE[kind]
    events: Events = [list(journal.decode(segment)) for segment in fusion().segments]
    change(events)
    with pytest.raises(RunDirError, match=said):
        TreeManager.replay(CONFIG, None, [journal.encode(segment) for segment in events])
