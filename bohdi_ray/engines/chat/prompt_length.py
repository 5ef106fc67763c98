"""Counts the tokens of a text in a folder's tokenizer, without transformers, only as exactly as needed.

Called by the preflight. A tokenizer that works on bytes, or falls back to them, makes no more tokens of a text than it
has bytes; so most questions are answered without reading a tokenizer of tens of megabytes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

SPARE = 8  # tokens that a tokenizer may add for itself: a space in front, a mark at either end


class TokenCounter:
    """Counts with the tokenizer of one folder, which is read only when needed."""

    def __init__(self, folder: Path):
        self._file = folder / "tokenizer.json"

    def fits(self, text: str, limit: int) -> bool:
        """Whether `text` has fewer than `limit` tokens; true if this cannot be determined here."""
        if len(text.encode()) + SPARE < limit:
            return True
        count = self.count(text)
        return count is None or count < limit

    def count(self, text: str) -> int | None:
        """Number of tokens of `text`. Control tokens in the text are read as such and none are added; None without a
        tokenizer.json that the library of fast tokenizers can read."""
        if self._tokenizer is None:
            return None
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Any:
        if not self._file.is_file():
            return None
        try:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(self._file))
        except (
            Exception
        ):  # the library raises bare Exceptions; whoever loads the model says what is wrong with the file
            return None
        tokenizer.no_truncation()
        return tokenizer
