"""Engines whose KV cache is too small for their window: vLLM would refuse to start them. Pure.

Called by the preflight for every hosted model whose files are known. A certain finding is an error with the number that
would fit; one that depends on an estimate (the overhead on a GPU, a model whose layers are not known) is a note.
"""

from __future__ import annotations

from bohdi_ray.config import VllmModel
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.engine_settings import fits_itself, named, shrinks_weights
from bohdi_ray.placement.memory.estimate import ENGINE_OVERHEAD_GB, GB, ModelSize, kv_room_bytes
from bohdi_ray.placement.memory.kv_cache import Shortage, rounded_up, shortage

MOST_UTILIZATION = 0.95


def kv_findings(
    at: str, model: VllmModel, size: ModelSize, card_gb: float | None
) -> tuple[list[ConfigError], list[str]]:
    """Errors and notes about one model. `at` is its path in the configuration; GPU counts must be resolved; `card_gb`
    is the memory of the GPUs it would get (None: not known)."""
    window = size.window_of(model)
    most = kv_room_bytes(model, size, card_gb, overhead_gb=0.0)
    if size.kv is None or window is None or most is None or fits_itself(model):
        return [], []
    if (short := shortage(size.kv, window, most, model)) is not None:
        told = model.engine.kv_cache_memory_bytes is not None
        if size.kv.sure and (told or (most > 0 and not shrinks_weights(model))):
            return [_error(at, model, short, card_gb)], []
        return [], [f"{model.name}: as far as is known, {short.rule()}; vLLM may refuse to start it"]
    likely = kv_room_bytes(model, size, card_gb, ENGINE_OVERHEAD_GB["gpu"])
    if likely is not None and (short := shortage(size.kv, window, likely, model)) is not None:
        utilization = named(model, "gpu_memory_utilization")
        remedy = f"Lower {named(model, 'max_model_len')} to {short.most_tokens}, or raise {utilization}"
        return [], [f"{model.name}: {short.rule()} by estimate; vLLM may refuse to start it. {remedy}"]
    return [], []


def _error(at: str, model: VllmModel, short: Shortage, card_gb: float | None) -> ConfigError:
    engine, window = model.engine, named(model, "max_model_len")
    remedies = []
    if short.most_tokens:
        remedies.append(f"lower {window} to {short.most_tokens} at most")
    if engine.kv_cache_memory_bytes is not None:
        cache = named(model, "kv_cache_memory_bytes")
        remedies.append(f"raise {cache} to {int(short.needed_bytes * 1.02) + 1} or more")
    elif card_gb is not None:
        missing = short.needed_bytes - short.room_bytes + ENGINE_OVERHEAD_GB["gpu"] * GB
        share = rounded_up(engine.gpu_memory_utilization + missing / GB / card_gb)
        if share <= MOST_UTILIZATION:
            remedies.append(f"raise {named(model, 'gpu_memory_utilization')} to {share:g}")
        remedies.append("split the model over more GPUs (engine.tensor_parallel_size)")
    rule = f"{short.rule()}; vLLM does not start with less" + (
        "" if engine.max_model_len else " (the model's own window)"
    )
    text = ", or ".join(remedies) + "."
    return ConfigError(f"{at}.{window}", engine.max_model_len, rule, text[0].upper() + text[1:])
