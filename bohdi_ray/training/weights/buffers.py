"""Restores buffers that no checkpoint contains to the values they have in a normally loaded model. Needs torch and
transformers.

Called by the learner under ZeRO-3, where a model is built inside DeepSpeed's `zero.Init`: that creates every new
floating-point tensor in the training format, so values computed from such tensors are rounded. A rotary embedding's
`inv_freq` is 0.4 % off in bfloat16, which is 0.36 rad at position 2000.
"""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def restore_buffers(model: Any, dtype: torch.dtype) -> None:
    """Gives `model` the non-persistent buffers of a model of its class and configuration built outside `zero.Init`.

    All buffers are restored, whatever their names: rotary frequencies of any type, one set per kind of layer, the scale
    of Gemma's embeddings. `dtype` is the format in which the model was loaded. No HfDeepSpeedConfig may be alive.
    """
    from accelerate import init_empty_weights

    config = type(model.config).from_dict(model.config.to_dict())
    with init_empty_weights(include_buffers=False):  # weights without memory
        plain = type(model)._from_config(config, dtype=dtype, attn_implementation="eager")
    for name, wanted in plain.named_non_persistent_buffers():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        device = getattr(module, attribute).device
        module.register_buffer(attribute, wanted.to(device), persistent=False)
