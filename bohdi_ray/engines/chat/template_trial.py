"""Whether a chat template lets text through: it is rendered once with text that must come out again.

Called by engines/chat/rendering.py for every tokenizer, and by `bohdi plan` for every folder before anything starts.
What is found (whether there is a system role, whether content must be a list of parts) is how the model is asked from
then on. Pure functions over a rendering callable; `render_of(folder)` makes one without transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bohdi_ray.engines.chat.folder_template import FolderTemplate, render_of, template_of
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
    """A tokenizer's template, or a folder's. Further variables of the template come by name."""

    def __call__(self, messages: list[Message], add_generation_prompt: bool, **kwargs: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class ChatShape:
    """How one template wants its messages."""

    folded: bool = False  # the system prompt opens the user turn, because there is no role for it
    parts: frozenset[str] = frozenset()  # roles whose content is a list of parts; a plain text would be dropped
    least_system: str | None = None  # what to try it with where no system prompt matters; None: it takes none

    def message(self, role: str, text: str) -> Message:
        """One turn."""
        return {"role": role, "content": [{"type": "text", "text": text}] if role in self.parts else text}

    def messages(self, system_prompt: str | None, prompt: str) -> list[Message]:
        """The turns before the answer."""
        if not system_prompt:
            return [self.message("user", prompt)]
        if self.folded:
            return [self.message("user", f"{system_prompt}\n\n{prompt}")]
        return [self.message("system", system_prompt), self.message("user", prompt)]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out of one trial with the configured system prompt."""

    shape: ChatShape
    prompt: str  # up to where the answer begins
    conversation: str | None  # with the answer in it; None when the template raises or drops it

    @property
    def is_stable(self) -> bool:
        """Whether the prompt is the beginning of the conversation, so that answer tokens can be told from its own."""
        return self.conversation is not None and self.conversation.startswith(self.prompt)


def shape_of(
    render: Render, kwargs: Mapping[str, Any] | None = None, field: str = "model", value: object = "its chat template"
) -> ChatShape:
    """How this template wants its messages. Raises ConfigError when no question comes out of it.

    The first arrangement from which question and answer both come out; else the first one that lets the question
    through, which is enough for a source. With a system turn only where none comes out without: some templates demand
    one, and whether there is a system prompt is for `trial` to see.
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
            f"a question does not come out of the chat template: {failure}, as a text and as a list of parts",
            "Mend the template, or add one that takes plain text as chat_template.jinja to the model's folder.",
        )
    return ChatShape(_must_fold(render, asked, kwargs), asked.parts, least_system)


def _arranged(render: Render, system_prompt: str | None, kwargs: dict[str, Any]) -> ChatShape | None:
    """The arrangement that lets most through; None where every one loses the question."""
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
    """Whether the template has no system role that stays: it raises, drops the text, or drops it (or moves it) once an
    answer follows, as Mistral's do that write it into the last user turn."""
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
    """One question, with the configured system prompt, and one answer. Raises ConfigError when one does not come out.

    A source needs no answer to come out. Whether the prompt is the beginning of the conversation is for the caller to
    judge by `is_stable`.
    """
    kwargs = dict(kwargs or {})
    shape = shape_of(render, kwargs, field, value)
    messages = shape.messages(system_prompt, QUESTION_MARK)
    prompt, reason = _rendered(render, messages, True, kwargs)
    if prompt is None or not _holds(prompt, QUESTION_MARK):
        rule = f"with this system prompt no question comes out of the chat template ({reason or 'it is dropped'})"
        raise ConfigError(field, value, rule, "Change system_prompt, or mend the template.")
    if system_prompt and system_prompt.strip() not in prompt:
        rule = "the system prompt does not come out of the chat template as it is written"
        raise ConfigError(field, value, rule, "Change system_prompt, or mend the template.")
    whole, reason = _rendered(render, [*messages, shape.message("assistant", ANSWER_MARK)], False, kwargs)
    if not (_holds(whole, ANSWER_MARK) and _holds(whole, QUESTION_MARK)):
        whole = None
    if is_target and whole is None:
        rule = f"no answer comes out of the chat template ({reason or 'it is dropped'}), so no row could be learned"
        remedy = "Mend the template, or add one that writes assistant turns as chat_template.jinja to the folder."
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
