"""Checks that a tokenizer fits its model: every token that a text can be encoded to needs a row of the embedding.

Called by `bohdi plan` for folders and by training/weights/versions.py for what it has loaded. Pure functions over plain
data and files; imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from bohdi_ray.engines.chat.folder_template import named_tokens, template_of
from bohdi_ray.engines.families.config_file import config_in, mapping_in
from bohdi_ray.errors import ConfigError

# Tokens by name that an engine or the trainer writes itself. Not the padding: batches are padded with id 0.
ROLES = ("bos_token", "eos_token")


def tokens_without_row(
    ids: Mapping[str, int], special: Collection[str], written: str, named: Mapping[str, str], num_rows: int
) -> list[str]:
    """Tokens beyond the embedding that can occur in a prompt or an answer, lowest id first.

    A special token occurs only if the template writes it (`written`, or one of the names in `named`) or if it begins or
    ends texts, because control tokens are stripped from texts. Gemma 3's text models have one that never occurs, for
    images, beyond their last row; others have a padding token that was added later.
    """
    roles = {token for name, token in named.items() if name in ROLES or re.search(rf"\b{re.escape(name)}\b", written)}
    beyond = sorted((number, token) for token, number in ids.items() if number >= num_rows)
    return [token for _, token in beyond if token not in special or token in roles or token in written]


def check_vocabulary(tokens: list[str], num_rows: int, field: str, value: object) -> None:
    """Raises ConfigError when `tokens_without_row` found any."""
    if not tokens:
        return
    shown = ", ".join(repr(token) for token in tokens[:3])
    raise ConfigError(
        field,
        value,
        f"its tokenizer is larger than its embedding: {len(tokens)} tokens, {shown} first, are beyond the last of "
        f"{num_rows} rows",
        "Use the tokenizer that the model was trained with, or resize the model's embedding and save it.",
    )


def check_folder_vocabulary(folder: Path | str, field: str) -> None:
    """As `check_vocabulary`, for a model folder, from tokenizer.json and config.json alone; passes if they do not
    say."""
    folder = Path(folder)
    num_rows = num_embedding_rows(config_in(folder))
    tokenizer = mapping_in(folder / "tokenizer.json")
    if num_rows is None or not tokenizer:
        return
    ids, special = tokenizer_tokens(tokenizer, mapping_in(folder / "tokenizer_config.json"))
    try:
        written = template_of(folder) or ""
    except ConfigError:  # said where templates are checked
        written = ""
    tokens = tokens_without_row(ids, special, written, named_tokens(folder), num_rows)
    check_vocabulary(tokens, num_rows, field, str(folder))


def control_tokens_in(folder: Path) -> set[str]:
    """The special tokens of the tokenizer in a folder; empty if its files do not say."""
    tokenizer = mapping_in(folder / "tokenizer.json")
    return tokenizer_tokens(tokenizer, mapping_in(folder / "tokenizer_config.json"))[1]


def num_embedding_rows(config: Mapping[str, Any]) -> int | None:
    """`vocab_size` of a config.json, of the inner language model for a wrapper; None if it does not say."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        if isinstance(size := part.get("vocab_size"), int) and size > 0:
            return size
    return None


def tokenizer_tokens(
    tokenizer: Mapping[str, Any], tokenizer_config: Mapping[str, Any]
) -> tuple[dict[str, int], set[str]]:
    """Every token of a tokenizer.json with its id, and the set of special ones."""
    model = tokenizer.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    ids: dict[str, int] = {}
    if isinstance(vocab, Mapping):
        ids = {str(token): number for token, number in vocab.items() if isinstance(number, int)}
    elif isinstance(vocab, list):  # Unigram: pairs of token and score, in the order of ids
        ids = {str(entry[0]): number for number, entry in enumerate(vocab) if isinstance(entry, list) and entry}
    special: set[str] = set()
    for number, token in _added(tokenizer, tokenizer_config):
        ids[str(token.get("content"))] = number
        if token.get("special"):
            special.add(str(token.get("content")))
    return ids, special


def _added(
    tokenizer: Mapping[str, Any], tokenizer_config: Mapping[str, Any]
) -> Iterable[tuple[int, Mapping[str, Any]]]:
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, Mapping) and isinstance(token.get("id"), int):
            yield token["id"], token
    decoder = tokenizer_config.get("added_tokens_decoder")
    for number, token in (decoder if isinstance(decoder, Mapping) else {}).items():
        if isinstance(token, Mapping) and str(number).isdigit():
            yield int(number), token
