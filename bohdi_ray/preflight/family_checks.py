"""Reasons in a model's own folder why it cannot be used: as a target, without its own code, or because its tokenizer
does not fit.

Called by the preflight for every model whose folder is here. Reads configuration and tokenizer files, no weights.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from bohdi_ray.engines.chat.vocabulary import check_folder_vocabulary
from bohdi_ray.engines.families.config_file import config_in
from bohdi_ray.engines.families.known import needs_own_code
from bohdi_ray.engines.families.targets import target_error
from bohdi_ray.errors import ConfigError


def folder_errors(at: str, folder: Path, trust_remote_code: bool = False) -> list[ConfigError]:
    """All such errors for the model at path `at` in the configuration (`target`, `sources.0`). `trust_remote_code`:
    whether a source's own code may run."""
    field = f"{at}.model"
    errors = []
    if not (config := config_in(folder)):
        return []
    if at == "target" and (error := target_error(config, str(folder), field)):
        errors.append(error)
    if at != "target" and not trust_remote_code and needs_own_code(config):
        rule = f"vLLM runs {config.get('model_type')!r} only with the code that its publisher ships with it"
        remedy = "Read that code and set trust_remote_code: true at this source, or use another model."
        errors.append(ConfigError(field, str(folder), rule, remedy))
    try:
        with contextlib.suppress(ValueError):  # a tokenizer.json that is no JSON: whoever reads it next says so
            check_folder_vocabulary(folder, field)
    except ConfigError as error:
        errors.append(error)
    return errors
