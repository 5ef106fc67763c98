"""The settings that an engine really gets, because `engine.extra` may override the fields, and its number format. Pure.

Called by all code that estimates an engine's memory. vLLM's arguments are the fields, and then `extra`
(engines/vllm/api.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.config import FusionConfig, VllmModel

# Fields of `engine` that are reckoned with, and what a value in `extra` must be to count as one.
FIELDS: dict[str, tuple[type, ...]] = {
    "max_model_len": (int,),
    "gpu_memory_utilization": (int, float),
    "kv_cache_memory_bytes": (int,),
}
DTYPES = {
    "auto": "auto",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "half": "float16",
    "float32": "float32",
    "float": "float32",
}
NUM_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}
FITS_ITSELF = -1  # max_model_len, as large as the cache allows
# Keys of `extra` with which the weights take less of a card than the files say.
SHRINKS_WEIGHTS = ("quantization", "cpu_offload_gb")


def with_last_words(model: VllmModel) -> VllmModel:
    """The model, with fields replaced by the values that `engine.extra` gives for them."""
    extra = model.engine.extra
    told = {
        name: extra[name]
        for name, kinds in FIELDS.items()
        if isinstance(extra.get(name), kinds) and not isinstance(extra[name], bool) and extra[name] > 0
    }
    if "max_model_len" in extra:  # null and -1 leave it to vLLM
        told.setdefault("max_model_len", None)
    engine = model.engine.model_copy(update=told)
    dtype = DTYPES.get(str(extra.get("dtype")).removeprefix("torch."), model.dtype)
    return model.model_copy(update={"engine": engine, "dtype": dtype})


def all_with_last_words(config: FusionConfig) -> FusionConfig:
    """As `with_last_words`, for every model that vLLM hosts."""
    sources = tuple(with_last_words(one) if isinstance(one, VllmModel) else one for one in config.sources)
    return config.model_copy(update={"sources": sources, "target": with_last_words(config.target)})


def named(model: VllmModel, name: str) -> str:
    """The path of an engine setting below the model's path: in `engine.extra` if it is set there."""
    return f"engine.extra.{name}" if name in model.engine.extra else f"engine.{name}"


def hf_overrides(model: VllmModel) -> Mapping[str, Any]:
    """The changes that the engine makes to config.json; empty if there are none or they are made by a function."""
    told = model.engine.extra.get("hf_overrides")
    return told if isinstance(told, Mapping) else {}


def fits_itself(model: VllmModel) -> bool:
    """Whether vLLM chooses a context window that fits its cache by itself."""
    return model.engine.extra.get("max_model_len") == FITS_ITSELF


def shrinks_weights(model: VllmModel) -> list[str]:
    """Settings that make the weights smaller on a GPU than in their files."""
    return [name for name in SHRINKS_WEIGHTS if model.engine.extra.get(name)]


def number_bytes(model: VllmModel) -> int:
    """Bytes of a number that an engine computes with. With `auto` vLLM takes the files' format if it has two bytes, and
    bfloat16 where they hold float32; a CPU that has no bfloat16 has been given its format before (on_cpu.py)."""
    return 2 if model.dtype == "auto" else NUM_BYTES[model.dtype]


def kv_number_bytes(model: VllmModel) -> int:
    """Bytes of a number in the KV cache."""
    asked = str(model.engine.extra.get("kv_cache_dtype") or "auto")
    return number_bytes(model) if asked == "auto" else NUM_BYTES.get(asked, 1)  # fp8 in its spellings, int8
