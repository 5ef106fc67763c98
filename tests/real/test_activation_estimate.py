"""The estimate of what a worker keeps for the backward pass, against what torch allocates for it."""

from __future__ import annotations

import json

import pytest

from bohdi_ray.config import TrainingConfig
from bohdi_ray.placement.memory.training_memory import activations, layer_shape

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 4096,
}


def peak_bytes(model, rows, packing: bool, folder) -> int:
    """The most that one forward and backward pass held at a time, gradients of weights apart."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from bohdi_ray.training.batches.batches import make_batch
    from bohdi_ray.training.objectives.logits import answer_losses, to_tensors

    batch = to_tensors(make_batch(rows, packing), "cpu")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        answer_losses(model, batch).sum().backward()
    profiled.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    now = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("config_class", "attention", "checkpointed", "within"),
    [
        ("LlamaConfig", "sdpa", False, (0.95, 1.1)),
        ("LlamaConfig", "sdpa", True, (0.95, 1.3)),  # the layer at hand and the logits are not there together
        ("Gemma2Config", "eager", False, (0.95, 1.1)),
    ],
)
def test_the_estimate_is_near_the_peak(config_class, attention, checkpointed, within, tmp_path):
    import torch
    import transformers

    from bohdi_ray.training.batches.encoding import EncodedRow

    config = getattr(transformers, config_class)(**SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation=attention
    ).train()
    if checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows = [[EncodedRow(tuple(range(5, 69)), 1) for _ in range(4)]]
    measured = peak_bytes(model, rows, True, tmp_path)
    training = TrainingConfig(max_length=256, gradient_checkpointing=checkpointed)
    shape = layer_shape(config.to_dict())
    assert shape is not None
    ratio = activations(training, shape, attention).total * 1e9 / measured
    assert within[0] < ratio < within[1], ratio
