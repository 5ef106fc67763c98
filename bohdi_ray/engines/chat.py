"""From a user turn to the text a model reads: its chat template, its system prompt, no control tokens from outside.

Called by the engine for every request and by training/encode.py for every row, so that what is trained is what is
asked. Pure functions over a Hugging Face tokenizer; imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from bohdi_ray.errors import ConfigError

_MARK = "Bohdi-7f3a"  # a system prompt that no template holds by itself


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


def folds_system_prompt(tokenizer: Any) -> bool:
    """Whether this template has no system role (it raises, or drops the text), tried once with a marker."""
    from jinja2.exceptions import TemplateError

    messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "Hello"}]
    try:
        return _MARK not in tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return True


def chat_messages(system_prompt: str | None, prompt: str, folded: bool) -> list[dict[str, str]]:
    """The turns before the answer. With `folded` the system prompt opens the user turn."""
    if not system_prompt:
        return [{"role": "user", "content": prompt}]
    if folded:
        return [{"role": "user", "content": f"{system_prompt}\n\n{prompt}"}]
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": prompt}]


def render_chat(
    tokenizer: Any,
    system_prompt: str | None,
    prompt: str,
    folded: bool,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text up to where the answer begins. It holds all special tokens: encode it without adding any."""
    messages = chat_messages(system_prompt, prompt, folded)
    variables = template_kwargs or {}
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)


def require_chat_template(folder: Path | str) -> None:
    """Raises ConfigError when a model folder has no chat template."""
    folder = Path(folder)
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return
    config = folder / "tokenizer_config.json"
    if config.is_file():
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(
                "model", str(folder), f"tokenizer_config.json is not JSON ({error})", "Mend it."
            ) from error
        if isinstance(content, dict) and content.get("chat_template"):
            return
    raise ConfigError(
        "model",
        str(folder),
        "the folder has no chat template, so it is not known how this model wants to be asked",
        "Use the instruction-tuned variant of the model, or add its chat_template.jinja to the folder.",
    )
