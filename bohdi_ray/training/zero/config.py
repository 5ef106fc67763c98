"""The DeepSpeed configuration: the user's mapping, checked, and completed with what bohdi_ray decides. Pure.

Called by the preflight (`check_deepspeed`) and by the learner (`complete_deepspeed`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bohdi_ray.config import TrainingConfig
from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.memory.training_memory import offloads_optimizer
from bohdi_ray.training.zero.known_keys import key_errors

# DeepSpeed's key -> our field that decides it.
FILLED_IN = {
    "train_batch_size": "training.global_batch_size",
    "train_micro_batch_size_per_gpu": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.global_batch_size",
    "optimizer": "training.learning_rate, betas and weight_decay",
    "scheduler": "training.schedule",
    "bf16": "training.dtype",
    "bfloat16": "training.dtype",
    "fp16": "training.dtype",
    "amp": "training.dtype",
    "torch_autocast": "training.dtype",
    "data_types": "training.dtype",
    "gradient_clipping": "training.gradient_clipping",
    "gradient_allreduce_op": "nothing: the loss is a sum over the global step, divided by its answer tokens",
    "prescale_gradients": "nothing: the loss is a sum over the global step, divided by its answer tokens",
    "managed_gradient_accumulation": "nothing: the loop owns the accumulation boundary",
}


def check_deepspeed(mapping: Mapping[str, Any]) -> None:
    """Refuses keys that are filled in from other fields, keys and types that DeepSpeed does not know, and stages other
    than ZeRO 1, 2 and 3. Raises ConfigError."""
    for key, ours in FILLED_IN.items():
        if key in mapping:
            raise ConfigError(
                f"training.deepspeed.{key}", mapping[key], f"is filled in by bohdi_ray from {ours}", "Remove the key."
            )
    zero = mapping.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, Mapping) else None
    if stage not in (1, 2, 3) or isinstance(stage, bool):
        raise ConfigError(
            "training.deepspeed.zero_optimization.stage", stage, "must be 1, 2 or 3", "Set it; 2 is the paper's."
        )
    for error in key_errors(mapping):
        raise error


def complete_deepspeed(training: TrainingConfig) -> dict[str, Any]:
    """The configuration passed to DeepSpeed. Raises ConfigError as `check_deepspeed` does.

    Batch sizes are nominal: the loop decides how many micro-batches make a step and says where the boundary is.
    Gradients of several micro-batches are added up in float32 whatever the training format.
    """
    check_deepspeed(training.deepspeed)
    config = copy.deepcopy(dict(training.deepspeed))
    optimizer: dict[str, Any] = {
        "lr": training.learning_rate,
        "betas": list(training.betas),
        "weight_decay": training.weight_decay,
        "torch_adam": not offloads_optimizer(training),
    }
    config |= {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "optimizer": {"type": "AdamW", "params": optimizer},
        "gradient_clipping": training.gradient_clipping,
        "bf16": {"enabled": training.dtype == "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
    }
    config.setdefault("steps_per_print", 1_000_000_000)
    return config
