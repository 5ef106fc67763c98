"""From a user turn to the text a model reads: its chat template, its system prompt, no control tokens from outside.

Called by the engine for every request and by training/batches/encoding.py for every row, so that what is trained is
what is asked. Pure functions over a Hugging Face tokenizer; imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from bohdi_ray.engines.chat.template_trial import ChatShape, Message, Render, shape_of


def special_tokens_of(tokenizer: Any) -> tuple[str, ...]:
    """Every control token of a tokenizer: those it marks as special, whether or not they have a role by name."""
    marked = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({token for token in (*tokenizer.all_special_tokens, *marked) if token.strip()}))


def strip_control_tokens(text: str, special_tokens: Iterable[str]) -> str:
    """`text` without any of the tokens, also none that would arise by taking another one out.

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
    """A tokenizer's chat template as a plain function to text."""

    def render(messages: list[Message], add_generation_prompt: bool, **kwargs: Any) -> str:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, **kwargs
        )

    return render


def chat_shape(tokenizer: Any, kwargs: Mapping[str, Any] | None = None) -> ChatShape:
    """How this tokenizer's template wants its messages, tried once with text that must come out again.

    Raises ConfigError when no question comes out of it.
    """
    return shape_of(renderer(tokenizer), kwargs, "model", str(getattr(tokenizer, "name_or_path", "")) or "the model")


def render_chat(
    tokenizer: Any,
    system_prompt: str | None,
    prompt: str,
    shape: ChatShape,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text up to where the answer begins. It holds all special tokens: encode it without adding any.

    `kwargs` are variables of the template (`enable_thinking`, say).
    """
    return renderer(tokenizer)(shape.messages(system_prompt, prompt), add_generation_prompt=True, **(kwargs or {}))
