"""A row's value as a prompt: a text, or the turns of a conversation up to its last user turn. Pure.

What cannot be a prompt has a reason, by which such rows are counted. Both common ways to write turns are read: `role`
and `content`, and `from` and `value`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bohdi_ray.engines.chat.turns import Role, Turn, conversation
from bohdi_ray.engines.prompts import clean_text

Reason = Literal[
    "row_null",
    "row_empty",
    "row_wrong_type",
    "row_too_long",
    "row_nested",
    "row_no_user_turn",
    "row_turns_out_of_order",
]
ROLES: dict[object, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
AS_TEXT = ('[{"role"', '[{"from"', "[{'role'", "[{'from'", '[{"content"', "[{'content'")  # a list written as text


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a row has no prompt."""

    reason: Reason


def prompt_of(value: Any, max_chars: int) -> str | Unusable:
    """The prompt in a column's value, as `engines.chat.turns` writes conversations; the answer that may follow the last
    user turn is left out."""
    if value is None:
        return Unusable("row_null")
    if isinstance(value, list):
        turns = _turns(value)
    elif isinstance(value, str) and not value.lstrip()[:12].replace(" ", "").startswith(AS_TEXT):
        turns = [Turn("user", value)]
    else:
        return Unusable("row_wrong_type")
    if isinstance(turns, Unusable):
        return turns
    if sum(len(turn.text) for turn in turns) > max_chars:
        return Unusable("row_too_long")  # before it is cleaned, which takes time
    turns = [Turn(turn.role, clean_text(turn.text)) for turn in turns]
    if turns[0].role == "system" and not turns[0].text:
        del turns[0]
    return conversation(turns) if all(turn.text for turn in turns) else Unusable("row_empty")


def _turns(value: list[Any]) -> list[Turn] | Unusable:
    if not all(isinstance(one, dict) for one in value):
        return Unusable("row_wrong_type")
    roles = [ROLES.get(str(one.get("role") or one.get("from"))) for one in value]
    if "user" not in roles:
        return Unusable("row_no_user_turn")
    asked = len(roles) - roles[::-1].index("user")
    turns = list[Turn]()
    for role, one in zip(roles[:asked], value[:asked], strict=True):
        text = _text(one.get("content") if one.get("content") is not None else one.get("value"))
        if isinstance(text, Unusable) or role is None:
            return text if isinstance(text, Unusable) else Unusable("row_wrong_type")
        turns.append(Turn(role, text))
    talk = turns[1:] if turns[0].role == "system" else turns
    # Templates of several families refuse anything but user and assistant in turn.
    if any(turn.role != ("user", "assistant")[i % 2] for i, turn in enumerate(talk)):
        return Unusable("row_turns_out_of_order")
    return turns


def _text(content: Any) -> str | Unusable:
    if isinstance(content, list):  # parts, as of models that also see pictures
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(content) else Unusable("row_nested")
    return content if isinstance(content, str) else Unusable("row_wrong_type")
