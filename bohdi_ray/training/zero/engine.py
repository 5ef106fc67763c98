"""One rank's model and optimizer under DeepSpeed, from a folder of weights. Needs torch."""

from __future__ import annotations

import os
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is imported
import deepspeed

from bohdi_ray.config import TrainingConfig
from bohdi_ray.placement.memory.training_memory import offloads_optimizer, zero_stage
from bohdi_ray.training.weights.buffers import restore_buffers
from bohdi_ray.training.weights.versions import load_trainable
from bohdi_ray.training.zero.config import complete_deepspeed
from bohdi_ray.training.zero.kernels import prepare_kernels


def start_engine(training: TrainingConfig, weights_dir: str, base_dir: str, trust_remote_code: bool) -> Any:
    """The model of these weights under DeepSpeed, with an optimizer that has not stepped yet. Every rank must call."""
    ds_config = complete_deepspeed(training)
    prepare_kernels(offloads_optimizer(training))
    keep_alive = None
    if zero_stage(training) == 3:
        from transformers.integrations import HfDeepSpeedConfig

        keep_alive = HfDeepSpeedConfig(ds_config)  # from here on models are born partitioned
    dtype = getattr(torch, training.dtype)
    model = load_trainable(
        weights_dir,
        base_dir,
        dtype=dtype,
        attn_implementation=training.attn_implementation,
        trust_remote_code=trust_remote_code,
    )
    if keep_alive is not None:
        del keep_alive
        restore_buffers(model, dtype)
    model.config.use_cache = False
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=parameters, config=ds_config)
    return engine
