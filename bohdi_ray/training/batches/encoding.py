"""Encodes a prompt with its answer as token ids with labels on the answer only. Pure, given a tokenizer.

Called by the train loop and by evaluation/heldout_loss.py, so both measure the same thing. Knows chat templates only
through the tokenizer; imports neither torch nor transformers. The target learns exactly what its engine would have to
generate: after the prompt as the engine renders it, the answer, then the end-of-turn token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bohdi_ray.engines.chat.rendering import chat_shape, render_chat, renderer, special_tokens_of, strip_control_tokens
from bohdi_ray.engines.chat.style import ChatStyle, exchange, plain_styles
from bohdi_ray.engines.chat.template_trial import ChatShape, Message
from bohdi_ray.engines.chat.turns import with_texts
from bohdi_ray.errors import ConfigError
from bohdi_ray.training.batches.turn_end import end_of_turn, end_position

_MARK = "Bohdi-9d20"  # an answer that no template holds by itself


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of prompt and answer; loss is taken on ids[num_prompt:]."""

    ids: tuple[int, ...]
    num_prompt: int

    @property
    def num_answer_tokens(self) -> int:
        return len(self.ids) - self.num_prompt


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as its objective encoded it: rows that go through the model together, and further data of the
    objective."""

    example_id: str
    rows: tuple[EncodedRow, ...]
    payload: bytes = b""

    @property
    def num_answer_tokens(self) -> int:
        return sum(row.num_answer_tokens for row in self.rows)

    @property
    def num_tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An example that is not used for training, and the reason."""

    example_id: str
    reason: str  # as `Encoder.encode` gives, or one of the objective's own


class Encoder:
    """Encodes rows for one target. Removes the target's control tokens from texts, so that a text cannot forge turns.

    Raises ConfigError when the target's chat template allows no answer mask.
    """

    def __init__(
        self,
        tokenizer: Any,
        system_prompt: str | None,
        max_length: int,
        template_kwargs: Mapping[str, Any] | None = None,
        reasoning: Literal["off", "keep"] = "off",
    ):
        styles = plain_styles("the target", tokenizer, template_kwargs)
        self._style = styles.style("answer", thinks=False)
        self._thinking_style = styles.style("answer", thinks=True) if reasoning == "keep" else None
        check_template(tokenizer, self._style, system_prompt)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._system_prompt = system_prompt
        self._shape = chat_shape(tokenizer, self._style.template_kwargs)
        self._special_tokens = special_tokens_of(tokenizer)
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(list(self._special_tokens)))
        self._end_from_last = end_position(renderer(tokenizer), self._shape, self._special_tokens)
        self._end: list[int] | None = None  # once asked for

    def exchange_ids(self, question: str, answer: str) -> list[int]:
        """Ids of one prompt with its answer and end of turn, as `encode` makes them, but not truncated."""
        prompt, answered = self._ids(question, answer)
        return prompt + (answered or [])

    def _ids(self, question: str, answer: str, reasoning: str = "") -> tuple[list[int], list[int] | None]:
        """Ids of the prompt, and of what follows it up to the end of turn; None if no mask is right."""
        if self._style.thinking is None:
            messages = self._shape.messages(self._system_prompt, question)
            kwargs = self._style.template_kwargs
            prompt, behind = split_at_answer(self._tokenizer, self._shape, messages, answer, kwargs)
            return prompt, None if behind is None else self._ended(behind)
        # A template that knows reasoning writes past turns otherwise than it asks for the next one, and cuts answers
        # that name its tags; so the row is put together as an engine would: the prompt, then what is decoded.
        style, block = self._style, ""
        if reasoning and self._thinking_style is not None and self._thinking_style.thinking is not None:
            style = self._thinking_style
            block = exchange(self._thinking_style.thinking, reasoning, style.opened)
        text = render_chat(self._tokenizer, self._system_prompt, question, self._shape, style.template_kwargs)
        prompt = self._tokenizer.encode(text + style.suffix, add_special_tokens=False)
        decoded = self._tokenizer.encode(block + answer, add_special_tokens=False)
        return list(prompt), [*decoded, *self._end_of_turn()]

    def _ended(self, answer_ids: list[int]) -> list[int]:
        return end_of_turn(answer_ids, self._special_ids, self._tokenizer.eos_token_id, self._end_from_last)

    def _end_of_turn(self) -> list[int]:
        """The token that an engine decodes after an answer, as the template writes it."""
        if self._end is None:
            whole = [*self._shape.messages(self._shape.least_system, "Hello"), self._shape.message("assistant", _MARK)]
            text = renderer(self._tokenizer)(whole, add_generation_prompt=False, **self._style.template_kwargs)
            behind = self._tokenizer.encode(text.rpartition(_MARK)[2], add_special_tokens=False)
            self._end = self._ended(behind if not self._special_ids.isdisjoint(behind) else [])
        return self._end

    def encode(self, question: str, answer: str, reasoning: str = "") -> EncodedRow | str:
        """Encodes one prompt with its answer, or says why it cannot be used: prompt_too_long, no_answer_tokens,
        not_prefix_stable or tokenizer_error. Never raises because of the texts."""
        question = with_texts(question, lambda text: strip_control_tokens(text, self._special_tokens))
        answer = strip_control_tokens(answer, self._special_tokens).strip()
        if not answer:
            return "no_answer_tokens"
        reasoning = strip_control_tokens(reasoning, self._special_tokens)
        try:
            prompt, answered = self._ids(question, answer, reasoning)
            if reasoning and answered is not None and len(prompt) + len(answered) > self._max_length:
                prompt, answered = self._ids(question, answer)  # half a thought would teach not to come to an answer
        except Exception:  # a template may raise anything, for this text alone
            return "tokenizer_error"
        if len(prompt) >= self._max_length:
            return "prompt_too_long"
        if answered is None:
            return "not_prefix_stable"
        return EncodedRow(tuple((prompt + answered)[: self._max_length]), len(prompt))


def render(
    tokenizer: Any,
    shape: ChatShape,
    prompt: list[Message],
    answer: str,
    template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt as an engine renders it, and of the whole conversation with the answer in place."""
    whole = [*prompt, shape.message("assistant", answer)]
    options = {"tokenize": True, "return_dict": False, **(template_kwargs or {})}
    prompt_ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **options)
    full_ids = tokenizer.apply_chat_template(whole, add_generation_prompt=False, **options)
    return list(prompt_ids), list(full_ids)


def split_at_answer(
    tokenizer: Any,
    shape: ChatShape,
    prompt: list[Message],
    answer: str,
    template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[int], list[int] | None]:
    """Token ids of the prompt, and of everything after it in a conversation with this answer; the latter is None if the
    prompt is not a prefix of the conversation.

    If a token would span the boundary (a prompt that ends in a space), prompt and answer are encoded separately,
    because an engine also reads the prompt alone and starts its answer with a new token.
    """
    prompt_ids, full_ids = render(tokenizer, shape, prompt, answer, template_kwargs)
    if full_ids[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, full_ids[len(prompt_ids) :]
    to_text, whole = renderer(tokenizer), [*prompt, shape.message("assistant", answer)]
    asked = to_text(prompt, add_generation_prompt=True, **(template_kwargs or {}))
    text = to_text(whole, add_generation_prompt=False, **(template_kwargs or {}))
    if not text.startswith(asked):
        return prompt_ids, None
    return prompt_ids, list(tokenizer.encode(text.removeprefix(asked), add_special_tokens=False))


def check_template(tokenizer: Any, style: ChatStyle | None = None, system_prompt: str | None = None) -> None:
    """Refuses a chat template whose prompt is not a prefix of the whole conversation, because no mask would be right.
    Rows of a template with reasoning are not rendered as a whole, so it is exempt."""
    name = getattr(tokenizer, "name_or_path", "") or "the target"
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "target.model", name, "its tokenizer has no chat template", "Add chat_template.jinja to the model's folder."
        )
    style = style or plain_styles("the target", tokenizer).style("answer", thinks=False)
    if style.thinking is not None:
        return
    shape = chat_shape(tokenizer, style.template_kwargs)
    question = shape.messages(system_prompt, "What is the capital of France?")
    answer = "Paris is the capital of France."
    if not split_at_answer(tokenizer, shape, question, answer, style.template_kwargs)[1]:
        raise ConfigError(
            "target.model",
            name,
            "its chat template is not prefix-stable: the prompt with the generation prompt is not the beginning of the "
            "conversation with the answer, so answer tokens cannot be separated from prompt tokens",
            "Change the template so that the assistant turn begins with what add_generation_prompt adds.",
        )
