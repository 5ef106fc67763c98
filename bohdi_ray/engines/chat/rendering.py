"""Renders a user turn as the text a model reads: applies chat template and system prompt, and removes control tokens
that come from outside.

Called by the engine for every request and by training/batches/encoding.py for every row, so that training and inference
use the same text. Pure functions over a Hugging Face tokenizer; imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from bohdi_ray.engines.chat.template_trial import ChatShape, Message, Render, shape_of


def special_tokens_of(tokenizer: Any) -> tuple[str, ...]:
    """All control tokens of a tokenizer: the tokens it marks as special, with or without a named role."""
    marked = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({token for token in (*tokenizer.all_special_tokens, *marked) if token.strip()}))


def strip_control_tokens(text: str, special_tokens: Iterable[str]) -> str:
    """`text` without any of the tokens, including those that would appear when another one is removed.

    One pass, linear in the length: a token is removed as soon as its last character is read, so what is kept never
    holds one, however they were nested.
    """
    tokens = tuple(special_tokens)
    if not tokens or _pattern(tokens).search(text) is None:
        return text
    by_last: dict[str, list[str]] = {}
    for token in sorted(tokens, key=len, reverse=True):
        by_last.setdefault(token[-1], []).append(token)
    kept: list[str] = []
    for character in text:
        kept.append(character)
        for token in by_last.get(character, ()):
            if len(kept) >= len(token) and "".join(kept[-len(token) :]) == token:
                del kept[-len(token) :]
                break
    return "".join(kept)


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token) for token in tokens))


def renderer(tokenizer: Any) -> Render:
    """A tokenizer's chat template as a plain function that returns text."""

    def render(messages: list[Message], add_generation_prompt: bool, **kwargs: Any) -> str:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, **kwargs
        )

    return render


def chat_shape(tokenizer: Any, kwargs: Mapping[str, Any] | None = None) -> ChatShape:
    """The message format that this tokenizer's template needs, found by rendering test text that must appear in the
    result.

    Raises ConfigError if the template drops the question in every format.
    """
    return shape_of(renderer(tokenizer), kwargs, "model", str(getattr(tokenizer, "name_or_path", "")) or "the model")


def render_chat(
    tokenizer: Any,
    system_prompt: str | None,
    prompt: str,
    shape: ChatShape,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text up to the start of the answer. It includes all special tokens, so encode it without adding any.

    `kwargs` are variables of the template (`enable_thinking`, say).
    """
    return renderer(tokenizer)(shape.messages(system_prompt, prompt), add_generation_prompt=True, **(kwargs or {}))
