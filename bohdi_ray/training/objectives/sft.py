"""`sft`: the answer's negative log-likelihood per token (the paper's Enlightenment, section 7 of the method)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bohdi_ray.examples.kinds import Completion, Example
from bohdi_ray.training.batches.encoding import EncodedExample, Encoder
from bohdi_ray.training.objectives.objective import ObjectiveOutput

if TYPE_CHECKING:
    import torch

    from bohdi_ray.training.objectives.logits import BatchTensors


class Objective:
    """Sum over answer tokens of -log p(token | all before it in its row), natural log."""

    example = Completion
    terms = ("tokens",)
    reference = None
    selection = "heldout_loss"
    num_forwards = 1

    def encode(self, encoder: Encoder, example: Example) -> EncodedExample | str:
        assert isinstance(example, Completion), example
        row = encoder.encode(example.question, example.answer, example.reasoning)
        return row if isinstance(row, str) else EncodedExample(example.example_id, (row,))

    def counts(self, examples: Sequence[EncodedExample]) -> dict[str, int]:
        return {"tokens": sum(example.num_answer_tokens for example in examples)}

    def weight(self, example: EncodedExample) -> int:
        return example.num_answer_tokens

    def loss(self, model: Any, batch: BatchTensors, reference: torch.Tensor | None) -> ObjectiveOutput:
        from bohdi_ray.training.objectives.logits import answer_losses, row_sums

        losses = answer_losses(model, batch)
        return ObjectiveOutput({"tokens": losses.sum()}, row_sums(losses.detach(), batch))
