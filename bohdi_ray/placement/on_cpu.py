"""What it means to place a hosted model on a CPU: families that cannot run there, and the number format.

Called when it is known which machines a run would get. Reads config.json files and /proc/cpuinfo, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig, VllmModel
from bohdi_ray.engines.families import family_errors
from bohdi_ray.engines.families.config_file import config_in
from bohdi_ray.engines.families.targets import as_published, quantization_of
from bohdi_ray.errors import ConfigError

# Flags of processors that multiply bfloat16 numbers themselves, on x86 and on ARM.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


@cache
def computes_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether this machine's CPU has instructions for bfloat16; true if this cannot be determined.

    Without them PyTorch multiplies one number at a time: 27 times slower than float32, measured on AVX2.
    """
    try:
        lines = Path(cpuinfo).read_text("utf-8", "replace").splitlines()
    except OSError:
        return True
    flags = next((line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "feat"))), None)
    return flags is None or not BFLOAT16_FLAGS.isdisjoint(flags)


def cpu_dtype(model: VllmModel) -> VllmModel:
    """The model with `dtype: auto` replaced by a number format that this machine's CPU computes fast.

    A quantized model keeps `auto`, because its kernels choose.
    """
    if model.dtype != "auto" or computes_bfloat16() or quantization_of(config_in(model.model)):
        return model
    return model.model_copy(update={"dtype": "float32"})


def slow_formats(config: FusionConfig) -> Iterator[str]:
    """Notes for models that would compute in bfloat16 on a CPU without instructions for it. GPU counts must be
    resolved."""
    if computes_bfloat16():
        return
    hosted = [model for model in (*config.sources, config.target) if isinstance(model, VllmModel)]
    asks = [f"dtype of {m.name}" for m in hosted if not m.resources.num_gpus and _is_half(m.dtype)]
    if not config.training.resources_per_worker.get("GPU") and _is_half(config.training.dtype):
        asks.append("training.dtype")
    if asks:
        yield (
            f"{', '.join(asks)}: bfloat16 on a CPU that has no instructions for it (no avx512_bf16, no amx_bf16) is "
            "many times slower than float32, which needs twice the memory"
        )


def unproved_errors(
    models: Mapping[str, VllmModel], configs: Mapping[str, Mapping[str, Any]] | None = None
) -> list[ConfigError]:
    """One error for each of these models (by path in the configuration) that would be placed on a CPU and that vLLM's
    CPU build cannot run. GPU counts must be resolved. `configs`: config.json files that were read already, by model
    name, for example of hub models."""
    errors = []
    for at, model in models.items():
        config = (configs or {}).get(model.name) or config_in(model.model)
        if model.resources.num_gpus or not config:
            continue
        served = as_published(config) if at == "target" else config
        errors += family_errors(f"{at}.model", model.model, served, "cpu")
    return errors


def _is_half(dtype: str) -> bool:
    return dtype in ("bfloat16", "float16")
