"""A folder's JSON files for checks to which a missing or damaged one is another check's affair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def config_in(folder: Path | str) -> dict[str, Any]:
    """The whole config.json; empty where there is none to read, as for a hub id whose files are not here."""
    return mapping_in(Path(folder) / "config.json")


def mapping_in(file: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none, it cannot be read, or it holds something else."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
