"""Checks that each event of a journal may follow the events before it. Used in replay only: live work emits only valid
events.

A segment's checksum detects damage, but not a segment in the wrong place. Without these checks a duplicated segment, or
one of another run, would be credited like any other without notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bohdi_ray.records import DomainPath, ticket_id
from bohdi_ray.tree.record import journal

if TYPE_CHECKING:
    from bohdi_ray.tree.state import TreeState


class Sequence:
    """Checks the events of one replay, each before it is applied."""

    def __init__(self, state: TreeState):
        self._state = state
        self._open: dict[str, DomainPath] | None = None  # tickets of the step being committed without an end so far

    def check(self, event: journal.AnyEvent) -> None:
        """Raises ValueError, or KeyError for a path that is not in the tree, if the event cannot come now."""
        if (check := _CHECKS.get(type(event))) is not None:
            check(self, event)

    @property
    def _is_closed(self) -> bool:
        """Whether the rows of the current round are drawn."""
        closed = self._state.last_closed
        return closed is not None and closed.round == self._state.round

    def _round_opened(self, event: journal.RoundOpened) -> None:
        round = self._state.round
        _expect(event.round == round + 1 and self._is_closed, f"round {event.round} is opened during round {round}")

    def _proposed(self, event: journal.Proposed) -> None:
        _expect(not self._is_closed, "proposals for a round that is closed")

    def _elected(self, event: journal.Elected) -> None:
        self._of_walks(self._state.num_walked)
        name = event.winner
        if name is not None:
            # The id of a request for its children is its path, joined by slashes.
            _expect(name and "/" not in name, f"{name!r} is no name of a domain")
            _expect(name not in self._state.tree.find(event.path).arms.by_name, f"{name!r} is born twice")

    def _unk_closed(self, event: journal.UnkClosed) -> None:
        self._of_walks(self._state.num_walked)

    def _walked(self, event: journal.Walked) -> None:
        self._of_walks(event.step)
        if event.index in self._state.in_flight.get(event.step, ()):
            raise ValueError(f"walk {event.index} ends twice")
        if self._state.tree.find(event.path).arms is not None:
            raise ValueError(f"{event.path} is not a leaf")

    def _abandoned(self, event: journal.Abandoned) -> None:
        self._of_walks(event.step)

    def _walks_done(self, event: journal.WalksDone) -> None:
        self._of_walks(event.step)
        num_walks = len(self._state.in_flight.get(event.step, ())) + self._state.abandoned.get(event.step, 0)
        wanted = self._state.config.meditation.walks_per_step
        _expect(num_walks == wanted, f"step {event.step} has {num_walks} walks of {wanted}")

    def _of_walks(self, step: int) -> None:
        state = self._state
        if not step == state.num_walked < state.config.meditation.steps:
            raise ValueError(f"walks of step {step} are out of order")
        if self._is_closed:
            raise ValueError(f"walks of step {step} belong to a round that is closed")

    def _credited(self, event: journal.Credited) -> None:
        if self._end(event.ticket_id) != event.path:
            raise ValueError(f"{event.ticket_id} belongs to another path")

    def _failed(self, event: journal.Failed) -> None:
        self._end(event.ticket_id)

    def _end(self, of_ticket: str) -> DomainPath:
        """Records the end of a ticket of the step that is committed next; returns its path."""
        state = self._state
        if self._open is None:
            step = state.num_committed
            _expect(step < state.num_walked, f"{of_ticket} ends before the walks of step {step} are done")
            paths = state.in_flight.get(step, {})
            self._open = {ticket_id(state.round, step, index): path for index, path in paths.items()}
        if of_ticket not in self._open:
            raise ValueError(f"{of_ticket} is not in flight")
        return self._open.pop(of_ticket)

    def _step_committed(self, event: journal.StepCommitted) -> None:
        state = self._state
        in_turn = event.step == state.num_committed < state.num_walked
        _expect(in_turn, f"step {event.step} is committed out of turn")
        num_open = len(state.in_flight.get(event.step, ()) if self._open is None else self._open)
        _expect(num_open == 0, f"{num_open} tickets of step {event.step} have no end")
        self._open = None

    def _rows_drawn(self, event: journal.RowsDrawn) -> None:
        state = self._state
        done = state.num_committed == state.config.meditation.steps
        _expect(done and not self._is_closed, f"round {state.round} is closed too early, or twice")

    def _at_the_boundary(self, event: journal.AnyEvent) -> None:
        _expect(self._is_closed, f"{type(event).__name__} in an open round")
        if isinstance(event, journal.Reborn):
            _expect(event.path, "the root is no arm")


# What comes with every walk and sample raises for itself: a sentence that nobody reads takes longer than the look.
def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


_CHECKS: dict[type, Callable[[Sequence, Any], None]] = {
    journal.RoundOpened: Sequence._round_opened,
    journal.Proposed: Sequence._proposed,
    journal.Elected: Sequence._elected,
    journal.UnkClosed: Sequence._unk_closed,
    journal.Walked: Sequence._walked,
    journal.Abandoned: Sequence._abandoned,
    journal.WalksDone: Sequence._walks_done,
    journal.Credited: Sequence._credited,
    journal.Failed: Sequence._failed,
    journal.StepCommitted: Sequence._step_committed,
    journal.RowsDrawn: Sequence._rows_drawn,
    journal.Aged: Sequence._at_the_boundary,
    journal.Reborn: Sequence._at_the_boundary,
}
