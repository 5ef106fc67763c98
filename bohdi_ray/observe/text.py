"""Makes text from models and errors harmless before a person's terminal shows it. Pure."""

from __future__ import annotations

import unicodedata

_HARMLESS = frozenset("\n\t")


def printable(text: str) -> str:
    """The text with control and format characters made visible as �, so that none can move the cursor, set colours,
    forge a line or turn the direction of writing."""
    return "".join(c if c in _HARMLESS or unicodedata.category(c) not in {"Cc", "Cf", "Cs"} else "�" for c in text)


def one_line(text: str, width: int = 200) -> str:
    """`printable` on one line of at most `width` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"
