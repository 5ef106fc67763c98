"""Hosted models that would be placed on a CPU although vLLM's CPU build cannot run their family.

Called by `bohdi plan` once it is known which machines a run would get. Reads config.json files and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bohdi_ray.config import VllmModel
from bohdi_ray.engines.families import family_errors
from bohdi_ray.engines.families.targets import as_published
from bohdi_ray.errors import ConfigError


def unproved_errors(models: Mapping[str, VllmModel]) -> list[ConfigError]:
    """One error for each of these models, by their place in a configuration whose GPUs have been settled."""
    errors = []
    for at, model in models.items():
        file = Path(model.model) / "config.json"
        if model.resources.num_gpus or not file.is_file():
            continue
        try:
            config = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue  # another check's affair
        if isinstance(config, dict):
            served = as_published(config) if at == "target" else config
            errors += family_errors(f"{at}.model", model.model, served, "cpu")
    return errors
