"""Finds where an answer ends: which of the control tokens that a chat template writes after it closes the turn.

Called by encoding.py once for a tokenizer. Pure: knows templates only by rendering them, never by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bohdi_ray.engines.chat.template_trial import ChatShape, Render

_QUESTION, _ANSWER, _NEXT = "What is the capital of France?", "Paris is the capital of France.", "And of Italy?"


def end_position(render: Render, shape: ChatShape, special_tokens: Iterable[str]) -> int:
    """Which special token after an answer ends it, counted from the last one (1); 0 if there is none.

    Templates may write more than one: Phi-3 closes each turn with `<|end|>` and the conversation with `<|endoftext|>`,
    Command R closes the answer with one token and the turn with another. Tokens that follow an answer both in the
    middle of a conversation and at its end belong to the turn, and an engine stops at the last of them.
    """
    at_end, in_middle = _closing(render, shape, last=True), _closing(render, shape, last=False)
    if at_end is None:
        return 1  # not found as it is written: the last token there is, as ever
    ends = [match.end() for match in _pattern(special_tokens).finditer(at_end)]
    if not ends:
        return 0
    shared = _common_prefix(at_end, in_middle or "")
    of_turn = sum(end <= shared for end in ends)
    return len(ends) - max(of_turn - 1, 0)


def end_of_turn(
    answer_ids: Sequence[int], special_ids: frozenset[int], eos_token_id: int | None, end_from_last: int = 1
) -> list[int]:
    """Removes what a template writes after the end of the turn (a newline, say); adds EOS if the template writes no
    end.

    Nothing after that token is ever generated, so there is nothing to learn in it. `end_from_last` is what
    `end_position` found; the answer's own text holds no special token.
    """
    ends = [position for position, token in enumerate(answer_ids) if token in special_ids]
    if end_from_last and ends:
        return list(answer_ids[: ends[-min(end_from_last, len(ends))] + 1])
    return [*answer_ids, eos_token_id] if eos_token_id is not None else list(answer_ids)


def _closing(render: Render, shape: ChatShape, last: bool) -> str | None:
    """The text after an answer; None if the answer does not appear unchanged or the template raises."""
    messages = [*shape.messages(shape.least_system, _QUESTION), shape.message("assistant", _ANSWER)]
    if not last:
        messages.append(shape.message("user", _NEXT))
    try:
        text = render(messages, add_generation_prompt=False)
    except Exception:  # a template is a program of strangers and may raise anything
        return None
    _, found, behind = text.rpartition(_ANSWER)
    return behind if found else None


def _pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    tokens = sorted(special_tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def _common_prefix(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
