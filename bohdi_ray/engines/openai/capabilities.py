"""What one model behind one server accepts: learned from its refusals and shared by all engines of this process.

Filled by lessons.py from what a server says, and by engine.py from how it answers; read by fields.py, which makes a
request's body. Every change goes one way (left out, lower, next), so learning ends.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

# Room for reasoning that nobody configured, tokens: the first grant, doubled when it is used up, to the last one.
FIRST_ROOM, LAST_ROOM = 2048, 16384


@dataclass(slots=True)
class Capabilities:
    """The capabilities of one model. `notices` holds sentences about what was learned, by subject."""

    left_out: set[str] = field(default_factory=set)  # fields
    left_out_at: dict[str, float] = field(default_factory=dict)  # fields left out where they would have this value
    at_most: dict[str, float] = field(default_factory=dict)
    at_least: dict[str, float] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)  # what the server insists on
    folded: bool = False  # the system prompt opens the user turn
    parts: bool = False  # content as a list of parts
    counted_logprobs: bool = False  # `logprobs` is the number of alternatives
    rungs: dict[str, int] = field(default_factory=dict)  # by kind of constraint, see constraints.py
    room: int = 0  # for reasoning, tokens
    notices: dict[str, str] = field(default_factory=dict)

    def note(self, about: str, text: str) -> None:
        """Logs a notice once and stores it in `notices`, where the newest one about a subject replaces older ones."""
        if self.notices.get(about) != text:
            self.notices[about] = text
            log.info("%s", text)

    def give_room(self) -> bool:
        """Raises the number of tokens for reasoning; returns False if it is at its maximum already."""
        if self.room >= LAST_ROOM:
            return False
        self.room = min(LAST_ROOM, max(FIRST_ROOM, 2 * self.room))
        return True


_KNOWN: dict[tuple[str, str], Capabilities] = {}


def capabilities_of(base_url: str, model: str) -> Capabilities:
    """The record of this model, shared within this process."""
    return _KNOWN.setdefault((base_url, model), Capabilities())
