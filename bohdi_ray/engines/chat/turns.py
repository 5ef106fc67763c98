"""A conversation as one text, which stands wherever a question does: in records, on disk, in requests. Pure.

A plain text is one user turn. In a conversation every turn is its role between two control characters, then its text:
those characters are removed from everything that models and files say (`prompts.clean_text`), so no text can forge a
turn. Only what renders a prompt or shows it to a person looks inside. Nothing else may change such a text: Python takes
the two characters for space (`strip`, `split`, `splitlines`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
_START, _END = "\x1e", "\x1f"
_SHOWN = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    text: str


def conversation(turns: Iterable[Turn]) -> str:
    """The turns as one text; a single user turn is its text. The texts must be clean."""
    turns = tuple(turns)
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].text
    return "".join(f"{_START}{turn.role}{_END}{turn.text}" for turn in turns)


def turns_of(text: str) -> tuple[Turn, ...]:
    """The turns in a text that `conversation` wrote; any other is one user turn."""
    if not text.startswith(_START):
        return (Turn("user", text),)
    turns = []
    for part in text[1:].split(_START):
        role, _, said = part.partition(_END)
        assert role in _SHOWN, role
        turns.append(Turn(role, said))  # type: ignore[arg-type]
    return tuple(turns)


def with_texts(text: str, change: Callable[[str], str]) -> str:
    """The conversation with the text of every turn changed."""
    return conversation(Turn(turn.role, change(turn.text)) for turn in turns_of(text))


def shown(text: str) -> str:
    """The conversation as a person or a judge reads it."""
    turns = turns_of(text)
    if len(turns) == 1 and turns[0].role == "user":
        return text
    return "\n\n".join(f"{_SHOWN[turn.role]}: {turn.text}" for turn in turns)
