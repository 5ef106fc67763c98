"""How a part of the driver tells of something that a person should not miss. `RunProgress.on_notice` is one."""

from __future__ import annotations

from typing import Any, Protocol


class Notify(Protocol):
    def __call__(self, kind: str, text: str, **fields: Any) -> None:
        """`kind` and `fields` go into metrics.jsonl, `text` onto the console."""
        ...
