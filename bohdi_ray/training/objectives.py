"""What is minimised. An objective maps a model and a batch to a *sum* of losses; the loop divides by the step's tokens.

    objective(model, batch: BatchTensors) -> ObjectiveOutput

`sft` is the only one now; preference and distillation objectives keep the signature. Imported by the train workers and
by evaluation only: this module needs torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from bohdi_ray.training.batches.encoding import IGNORED, Batch

# Positions whose logits are turned to float32 at a time: 49 k words x 4 bytes x 512 = 100 MB.
CHUNK_TOKENS = 512


@dataclass(frozen=True)
class BatchTensors:
    """A `Batch` on the device, all [B, T] int64. `labels` and `segments` are shifted to where they are predicted."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    num_rows: int


@dataclass(frozen=True)
class ObjectiveOutput:
    """`loss_sum`: scalar with gradient. `row_loss_sums`: [num_rows] float32, detached, losses summed per row."""

    loss_sum: torch.Tensor
    row_loss_sums: torch.Tensor


Objective = Callable[[Any, BatchTensors], ObjectiveOutput]


def to_tensors(batch: Batch, device: torch.device | str) -> BatchTensors:
    """Moves a batch to the device and shifts labels and segments left by one."""

    def tensor(lines: list[list[int]]) -> torch.Tensor:
        return torch.tensor(lines, dtype=torch.int64, device=device)

    def shifted(lines: list[list[int]], filler: int) -> torch.Tensor:
        return tensor([[*line[1:], filler] for line in lines])

    return BatchTensors(
        tensor(batch.input_ids),
        tensor(batch.position_ids),
        shifted(batch.labels, IGNORED),
        shifted(batch.segments, -1),
        len(batch.rows),
    )


def sft(model: Any, batch: BatchTensors) -> ObjectiveOutput:
    """Sum over answer tokens of -log p(token | all before it in its row), natural log.

    The first token of a row is never an answer token, so a shifted label never crosses from one row into the next.
    """
    if batch.num_rows == 0:
        logits = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
        return ObjectiveOutput(logits.float().sum() * 0.0, torch.zeros(0))
    logits, labels, segments = _answer_logits(model, batch)
    losses = token_losses(logits, labels)
    sums = torch.zeros(batch.num_rows, device=losses.device).index_add_(0, segments, losses.detach())
    return ObjectiveOutput(losses.sum(), sums)


OBJECTIVES: dict[str, Objective] = {"sft": sft}


def _answer_logits(model: Any, batch: BatchTensors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [N, V] of the N positions with a label, their labels [N] and rows [N].

    The language model head is applied only to columns in which some line has a label: prompts cost no logits.
    """
    labelled = batch.labels != IGNORED
    columns = labelled.any(dim=0).nonzero().squeeze(1)
    inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False}
    if "logits_to_keep" in _forward_parameters(model):
        logits = model(**inputs, logits_to_keep=columns).logits
    else:
        logits = model(**inputs).logits[:, columns]
    keep = labelled[:, columns]
    return logits[keep], batch.labels[:, columns][keep], batch.segments[:, columns][keep]


def _forward_parameters(model: Any) -> set[str]:
    module = getattr(model, "module", model)
    return set(inspect.signature(module.forward).parameters)


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy [N] in float32 of logits [N, V], a chunk of positions at a time.

    Only the logits in their own format are kept for the backward pass; their float32 copies are made again, chunk by
    chunk.
    """

    def chunk_losses(chunk: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(chunk.float(), targets, reduction="none")

    pairs = zip(logits.split(CHUNK_TOKENS), labels.split(CHUNK_TOKENS), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk_losses(chunk, targets) for chunk, targets in pairs])
    if len(labels) <= CHUNK_TOKENS:
        return chunk_losses(logits, labels)
    return torch.cat([checkpoint(chunk_losses, chunk, targets, use_reentrant=False) for chunk, targets in pairs])


@torch.no_grad()
def token_logprobs(model: Any, ids: list[int], device: torch.device | str) -> list[float]:
    """log p(ids[i] | ids[:i]) for i >= 1, natural log, float32. One sequence, no padding."""
    input_ids = torch.tensor([ids], dtype=torch.int64, device=device)
    logits = model(input_ids=input_ids, use_cache=False).logits[0, :-1]
    return (-token_losses(logits, input_ids[0, 1:])).tolist()
