"""From batches to log-probabilities: the functions that objectives use. For train workers and evaluation: it needs
torch."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from bohdi_ray.training.batches.batches import IGNORED, Batch
from bohdi_ray.training.batches.encoding import EncodedExample

# Positions whose logits are turned to float32 at a time: 49 k words x 4 bytes x 512 = 100 MB.
CHUNK_TOKENS = 512


@dataclass(frozen=True)
class BatchTensors:
    """A `Batch` on the device, all [B, T] int64. `labels` and `segments` are shifted to the position that predicts
    them."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    num_rows: int
    examples: tuple[EncodedExample, ...]


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
        batch.examples,
    )


def answer_losses(model: Any, batch: BatchTensors) -> torch.Tensor:
    """-log p of each answer token, natural log, [N] float32 with gradient, line by line.

    The first token of a row is never an answer token, so a shifted label never crosses from one row into the next.
    """
    return token_losses(*answer_logits(model, batch))


def row_sums(losses: torch.Tensor, batch: BatchTensors) -> torch.Tensor:
    """Sums per row, [num_rows], of a value at each answer token, [N]."""
    segments = batch.segments[batch.labels != IGNORED]
    return torch.zeros(batch.num_rows, device=losses.device).index_add(0, segments, losses)


def no_loss(model: Any, batch: BatchTensors, num_forwards: int) -> torch.Tensor:
    """A loss of 0 that still runs the model on the batch, for a rank without micro-batches while others have some."""
    inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False}
    sums = [model(**inputs).logits.float().sum() for _ in range(num_forwards)]
    return torch.stack(sums).sum() * 0.0


def answer_logits(model: Any, batch: BatchTensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, V] of the N positions with a label, and their labels [N].

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
    # One line has a label in each of its columns: a view is enough, and no second copy of the logits.
    kept = logits[0] if len(logits) == 1 else logits[keep]
    return kept, batch.labels[:, columns][keep]


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
