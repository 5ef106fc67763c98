"""Makes text from models and errors safe to show on a terminal, in a log or on a page. Pure."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import Any

# Control, format (direction of writing, zero width, tags), lone surrogates, separators of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@lru_cache(maxsize=1)
def _unsafe() -> re.Pattern[str]:
    """Every character of these categories but new line and tab. Made when first used: it looks at all of Unicode."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in _UNSAFE]
    ranges = []
    for _, run in groupby(enumerate(code for code in codes if code not in (9, 10)), lambda pair: pair[1] - pair[0]):
        members = [code for _, code in run]
        ranges.append(f"{re.escape(chr(members[0]))}-{re.escape(chr(members[-1]))}")
    return re.compile(f"[{''.join(ranges)}]")


def printable(text: str) -> str:
    """The text with control and format characters made visible as �, so that none can move the cursor, set colours,
    write to the clipboard, or turn the direction of writing."""
    return text if text.isascii() and text.isprintable() else _unsafe().sub("�", text)


def message(text: str) -> str:
    """`printable`, with continuation lines indented, so that none of them looks like a message of its own."""
    return "\n  ".join(printable(text).split("\n"))


def one_line(text: str, width: int = 200) -> str:
    """`printable` on one line of at most `width` characters."""
    line = " ".join(printable(text[: 10 * width]).split())
    return line if len(line) <= width and len(text) <= 10 * width else line[: width - 1] + "…"


def json_text(value: Any, **options: Any) -> str:
    """`value` as JSON that keeps letters of all scripts and escapes every character that could do harm when the JSON
    itself is shown; parsing it gives exactly `value`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, **options)
    return (
        text if text.isascii() and "\x7f" not in text else _unsafe().sub(lambda found: json.dumps(found[0])[1:-1], text)
    )
