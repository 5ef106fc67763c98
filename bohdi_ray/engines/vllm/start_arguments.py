"""Arguments for starting vLLM, chosen after inspecting the model's own files.

Called by engine.py at the start of an engine. Refuses what cannot work before anything is loaded: a family that this
machine cannot run, a chat template that drops the question. Imports transformers inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bohdi_ray.engines.chat.hf_tokenizer import (
    files_of,
    has_mistral_format,
    require_hugging_face_layout,
    tokenizer_from,
)
from bohdi_ray.engines.chat.rendering import chat_shape
from bohdi_ray.engines.families import family_errors
from bohdi_ray.engines.families.config_file import config_in
from bohdi_ray.engines.families.states import keeps_states
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.engines.vllm.api import engine_arguments
from bohdi_ray.errors import ConfigError


def start_arguments(spec: EngineSpec, scratch: str) -> dict[str, Any]:
    """Keyword arguments of AsyncEngineArgs. Files that replace the model's own for vLLM are created in `scratch`.

    The tokenizer is the same as in training, unless `engine.extra` chooses another. Raises ConfigError.
    """
    model, told = spec.model, spec.model.engine.extra
    files = files_of(spec.path, model.revision)
    config = config_in(files or spec.path)
    refuse_family(spec, config)
    found: dict[str, Any] = {"keeps_states": keeps_states(config)}
    if "tokenizer" in told or told.get("tokenizer_mode", "hf") not in ("hf", "auto"):
        return engine_arguments(model, spec.path, spec.seed, spec.device, spec.sleeps, **found)
    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if Path(spec.path).is_dir():
        require_hugging_face_layout(f"model {spec.name}", Path(spec.path))
    elif model.revision is not None:
        options["revision"] = model.revision
    tokenizer = tokenizer_from(files, spec.path, **options)
    chat_shape(tokenizer.tokenizer)
    found["tokenizer"] = tokenizer.folder_for_vllm(scratch)
    found["has_mistral_format"] = has_mistral_format(files)
    return engine_arguments(model, spec.path, spec.seed, spec.device, spec.sleeps, **found)


def refuse_family(spec: EngineSpec, config: dict[str, Any]) -> None:
    """Raises ConfigError if the device cannot run the model's family."""
    if errors := family_errors(f"model {spec.name}", spec.path, config, spec.device):
        raise errors[0]


def require_control_tokens(spec: EngineSpec, tokenizer: Any) -> None:
    """Raises ConfigError for a tokenizer, chosen by `engine.extra`, whose control tokens cannot be listed."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        rule = (
            f"{type(tokenizer).__name__} does not say which of its tokens are control tokens, which texts must not hold"
        )
        remedy = "Leave tokenizer_mode out of engine.extra: the Hugging Face tokenizer is used."
        raise ConfigError(f"engine.extra of model {spec.name}", spec.model.engine.extra, rule, remedy)
