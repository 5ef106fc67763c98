"""Settings that have another name now: refused where a person writes them, read where a run has stored them."""

from __future__ import annotations

from typing import Any

RENAMED = {"training.replay": "training.rehearsal"}


def new_name(place: str) -> str | None:
    """What a setting is called now; None where it never had another name. Below a section that was renamed, too."""
    for old, new in RENAMED.items():
        if place == old or place.startswith(old + "."):
            return new + place.removeprefix(old)
    return None


def with_new_names(plain: Any) -> Any:
    """A configuration as an earlier version stored it, under the names of now."""
    if not isinstance(plain, dict):
        return plain
    for old, new in RENAMED.items():
        section, _, key = old.rpartition(".")
        if isinstance(held := plain.get(section), dict) and key in held:
            others = {name: value for name, value in held.items() if name != key}
            plain = {**plain, section: {**others, new.rpartition(".")[2]: held[key]}}
    return plain
