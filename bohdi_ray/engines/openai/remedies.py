"""The reaction to a field that a server refuses: leave it out, or send it under another name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.constraints import FIELDS as CONSTRAINTS

# Fields that a request is also good without.
OPTIONAL = frozenset(
    {"temperature", "top_p", "seed", "random_seed", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
    | {"chat_template_kwargs", "reasoning_effort"}
    | CONSTRAINTS
)
# What is tried under another name before it is left out.
OTHER_NAMES = {"max_tokens": "max_completion_tokens", "seed": "random_seed"}


class Lesson(NamedTuple):
    """One thing that was learned: its subject, and a text that follows the model's name."""

    about: str
    text: str


def optional(sent: Mapping[str, Any]) -> list[str]:
    """The fields of a body that may be left out."""
    return [name for name in sent if name in OPTIONAL]


def leave_out(name: str, learned: Capabilities, text: str = "") -> Lesson:
    """Leaves the field out from now on, or renames it; `text` is the server's message, which may mention another
    name."""
    original = next((old for old, new in learned.renamed.items() if new == name), name)
    other = OTHER_NAMES.get(name)
    if name in learned.renamed:  # by another complaint about the same request
        return Lesson(name, f"it does not take {name}; {other} is sent instead from now on")
    if other is not None and (name != "seed" or other in text):
        learned.renamed[name] = other
        return Lesson(name, f"it does not take {name}; {other} is sent instead from now on")
    learned.left_out.add(name)
    if original != name:
        learned.left_out.add(original)
    return Lesson(name, f"it does not take {name}; it is left out from now on")
