"""One target through publishing, a step of training and export, without Ray and DeepSpeed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from training_support import some_rows, tiny_config

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.engines.probe import PROBE_FILE, write_probe
from bohdi_ray.training.batches.batches import make_batch
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder
from bohdi_ray.training.weights.versions import (
    WEIGHTS,
    files_of_version,
    load_trainable,
    measure_probe,
    probe_ids,
    publish_base,
    write_weights,
)


def published(source: Path, folder: Path) -> str:
    """Version 0 in `folder`; returns its weights."""
    publish_base(tiny_config(source).target, str(folder))
    return str(folder / WEIGHTS)


def encoded_rows(weights_dir: str, count: int = 4) -> list[EncodedRow]:
    encoder = Encoder(load_tokenizer(weights_dir), None, 256)
    rows = [encoder.encode(row.question, row.answer) for row in some_rows(0, count)]
    assert all(isinstance(row, EncodedRow) for row in rows), rows
    return rows


def trained(weights_dir: str, base_dir: Path, out_dir: Path, version: int = 1) -> Any:
    """One plain step through the trainer's loss from a published version; the next one in `out_dir`, with its probe.

    Returns the trained model in float32, whose parameters are rounded to what is published.
    """
    import torch

    from bohdi_ray.training.objectives.logits import answer_losses, to_tensors

    model = load_trainable(weights_dir, str(base_dir), dtype=torch.float32)
    rows = encoded_rows(weights_dir)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = None
    for _ in range(2):
        loss_sum = answer_losses(model, to_tensors(make_batch([[row] for row in rows], False), "cpu")).sum()
        before = before or loss_sum.item()
        optimizer.zero_grad()
        (loss_sum / sum(row.num_answer_tokens for row in rows)).backward()
        optimizer.step()
    assert loss_sum.item() < before
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    out = str(out_dir / WEIGHTS)
    write_weights(model, files_of_version(weights_dir), model.state_dict(), out, torch.bfloat16)
    ids = probe_ids(Encoder(load_tokenizer(weights_dir), None, 256))
    as_served = load_trainable(out, str(base_dir), dtype=torch.bfloat16)
    write_probe(os.path.join(out_dir, PROBE_FILE), measure_probe(as_served, ids, version, "cpu"))
    return model.eval()


def logits_of(model: Any, ids: list[int]) -> Any:
    """[tokens, vocabulary] in float32. A wrapper that wants to know which tokens are an image's is told: none."""
    import inspect

    import torch

    tokens = torch.tensor([ids])
    told = {name: torch.zeros_like(tokens) for name in ("mm_token_type_ids", "token_type_ids")}
    taken = inspect.signature(model.forward).parameters
    with torch.no_grad():
        return model(tokens, **{name: value for name, value in told.items() if name in taken}).logits[0].float()
