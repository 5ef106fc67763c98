"""Reads a folder's JSON files for checks that ignore a missing or damaged file, because another check reports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def config_in(folder: Path | str) -> dict[str, Any]:
    """The config.json; empty if there is none to read, as for a hub id whose files are not here."""
    return mapping_in(Path(folder) / "config.json")


def mapping_in(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if there is none, it cannot be read, or it holds something else."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
