"""A folder's config.json for checks to which a missing or damaged one is another check's affair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def config_in(folder: Path | str) -> dict[str, Any]:
    """The whole mapping; empty where there is none to read, as for a hub id whose files are not here."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
