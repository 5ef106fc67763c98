"""Checks that a chat template passes text through: renders it once with test text that must appear in the result.

Called by engines/chat/rendering.py for every tokenizer, and by `bohdi plan` for every folder before anything starts.
The findings (whether there is a system role, whether content must be a list of parts) determine how the model is asked
from then on. Pure functions over a rendering callable; `render_of(folder)` makes one without transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bohdi_ray.engines.chat.folder_template import FolderTemplate, render_of, template_of
from bohdi_ray.engines.chat.turns import Turn, turns_of
from bohdi_ray.errors import ConfigError

__all__ = ["ChatShape", "FolderTemplate", "Render", "Trial", "render_of", "shape_of", "template_of", "trial"]

Message = dict[str, Any]
# Texts that no template holds by itself. Two lines and a mark, because some templates escape or fold what they write.
SYSTEM_MARK, QUESTION_MARK, ANSWER_MARK = (f"Bohdi-{digits}\nis & stays <so>" for digits in ("7f3a", "3e1c", "9d2b"))
LEAST_SYSTEM = "You are a helpful assistant."
# Roles whose content is a list of parts, in the order in which they are tried: the common ones first.
ARRANGEMENTS = tuple(
    frozenset(roles)
    for roles in (
        *((), ("system", "user", "assistant"), ("user",), ("system", "user"), ("user", "assistant")),
        *(("assistant",), ("system", "assistant"), ("system",)),
    )
)


class Render(Protocol):
    """A tokenizer's or folder's template as a callable. Further template variables are keyword arguments."""

    def __call__(self, messages: list[Message], add_generation_prompt: bool, **kwargs: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class ChatShape:
    """The message format that one template needs."""

    folded: bool = False  # the system prompt opens the user turn, because there is no role for it
    parts: frozenset[str] = frozenset()  # roles whose content is a list of parts; a plain text would be dropped
    least_system: str | None = None  # what to try it with where no system prompt matters; None: it takes none

    def message(self, role: str, text: str) -> Message:
        """One turn in this format."""
        return {"role": role, "content": [{"type": "text", "text": text}] if role in self.parts else text}

    def messages(self, system_prompt: str | None, prompt: str) -> list[Message]:
        """The turns before the answer. A system turn of the prompt itself takes the place of the model's system
        prompt."""
        turns = list(turns_of(prompt))
        system = turns.pop(0).text if turns[0].role == "system" else system_prompt
        if system and self.folded:
            turns[0] = Turn(turns[0].role, f"{system}\n\n{turns[0].text}")
        elif system:
            turns.insert(0, Turn("system", system))
        return [self.message(turn.role, turn.text) for turn in turns]


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one trial with the configured system prompt."""

    shape: ChatShape
    prompt: str  # up to where the answer begins
    conversation: str | None  # with the answer in it; None when the template raises or drops it

    @property
    def is_stable(self) -> bool:
        """Whether the prompt is a prefix of the conversation, so that answer tokens can be separated from prompt
        tokens."""
        return self.conversation is not None and self.conversation.startswith(self.prompt)


def shape_of(
    render: Render, kwargs: Mapping[str, Any] | None = None, field: str = "model", value: object = "its chat template"
) -> ChatShape:
    """The message format that this template needs. Raises ConfigError if the template drops the question in every
    format.

    The first format in which question and answer both appear; else the first in which the question appears, which is
    enough for a source. A system turn is added only if no format works without it: some templates require one. `trial`
    checks whether a system prompt passes.
    """
    kwargs = dict(kwargs or {})
    least_system, asked = None, _arranged(render, None, kwargs)
    if asked is None:
        least_system, asked = LEAST_SYSTEM, _arranged(render, SYSTEM_MARK, kwargs)
    if asked is None:
        messages = ChatShape().messages(None, QUESTION_MARK)
        reason = _rendered(render, messages, True, kwargs)[1]
        failure = f"it raises an error ({reason})" if reason else "it drops the question"
        raise ConfigError(
            field,
            value,
            f"the chat template loses the question: {failure}, as a text and as a list of parts",
            "Correct the template, or add one that takes plain text as chat_template.jinja to the model's folder.",
        )
    return ChatShape(_must_fold(render, asked, kwargs), asked.parts, least_system)


def _arranged(render: Render, system_prompt: str | None, kwargs: dict[str, Any]) -> ChatShape | None:
    """The format in which most of the text appears; None if every format loses the question."""
    asked = None
    for parts in ARRANGEMENTS:
        shape = ChatShape(parts=parts)
        messages = shape.messages(system_prompt, QUESTION_MARK)
        prompt, _ = _rendered(render, messages, True, kwargs)
        if not _holds(prompt, QUESTION_MARK):
            continue
        asked = asked or shape
        whole, _ = _rendered(render, [*messages, shape.message("assistant", ANSWER_MARK)], False, kwargs)
        if _holds(whole, ANSWER_MARK):
            return shape
    return asked


def _must_fold(render: Render, shape: ChatShape, kwargs: dict[str, Any]) -> bool:
    """Whether the template has no usable system role: it raises, drops the text, or drops or moves it once an answer
    follows, as those of Mistral do, which write it into the last user turn."""
    answer = shape.message("assistant", ANSWER_MARK)

    def tried(system_prompt: str | None) -> tuple[str | None, str | None]:
        messages = shape.messages(system_prompt, QUESTION_MARK)
        return _rendered(render, messages, True, kwargs)[0], _rendered(render, [*messages, answer], False, kwargs)[0]

    prompt, whole = tried(SYSTEM_MARK)
    if not (_holds(prompt, SYSTEM_MARK) and _holds(prompt, QUESTION_MARK)):
        return True
    prompt_alone, whole_alone = tried(None)
    if not _holds(whole_alone, ANSWER_MARK):
        return False  # no conversation comes out of it with or without a system prompt: nothing is learned from one
    if not (_holds(whole, SYSTEM_MARK) and _holds(whole, ANSWER_MARK)):
        return True
    return str(whole_alone).startswith(str(prompt_alone)) and not str(whole).startswith(str(prompt))


def trial(
    render: Render,
    system_prompt: str | None,
    *,
    is_target: bool = False,
    kwargs: Mapping[str, Any] | None = None,
    field: str = "model",
    value: object = "its chat template",
) -> Trial:
    """Renders one question, with the configured system prompt, and one answer. Raises ConfigError if one of them is
    missing in the result.

    A source needs no answer to come out. Whether the prompt is the beginning of the conversation is for the caller to
    judge by `is_stable`.
    """
    kwargs = dict(kwargs or {})
    shape = shape_of(render, kwargs, field, value)
    messages = shape.messages(system_prompt, QUESTION_MARK)
    prompt, reason = _rendered(render, messages, True, kwargs)
    if prompt is None or not _holds(prompt, QUESTION_MARK):
        rule = f"with this system prompt the chat template loses the question ({reason or 'it is dropped'})"
        raise ConfigError(field, value, rule, "Change system_prompt, or correct the template.")
    if system_prompt and system_prompt.strip() not in prompt:
        rule = "the chat template loses or changes the system prompt"
        raise ConfigError(field, value, rule, "Change system_prompt, or correct the template.")
    whole, reason = _rendered(render, [*messages, shape.message("assistant", ANSWER_MARK)], False, kwargs)
    if not (_holds(whole, ANSWER_MARK) and _holds(whole, QUESTION_MARK)):
        whole = None
    if is_target and whole is None:
        rule = f"the chat template loses the answer ({reason or 'it is dropped'}), so no row could be learned"
        remedy = "Correct the template, or add one that writes assistant turns as chat_template.jinja to the folder."
        raise ConfigError(field, value, rule, remedy)
    return Trial(shape, prompt, whole)


def _holds(text: str | None, mark: str) -> bool:
    # A list printed as Python writes it holds the text's characters too, but with the line break escaped.
    return text is not None and mark in text


def _rendered(
    render: Render, messages: list[Message], opens: bool, kwargs: dict[str, Any]
) -> tuple[str | None, str | None]:
    """The text, or None and the reason."""
    try:
        return render(messages, add_generation_prompt=opens, **kwargs), None
    except Exception as error:  # a template is a program of strangers and may raise anything
        return None, str(error) or type(error).__name__
