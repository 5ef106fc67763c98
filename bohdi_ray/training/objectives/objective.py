"""What an objective must say: the example it needs, how it is encoded, its terms and their counts, its loss.

An objective maps a model and a batch to *sums*, one a term; the learner divides each by the term's count over all
ranks, known before the first forward of a step, so that neither ranks nor micro-batches change a gradient. One file
each in this folder, named as its `kind:` in the configuration. No torch when it is imported: the encoder needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bohdi_ray.examples.kinds import Example
from bohdi_ray.training.batches.encoding import EncodedExample, Encoder, Rejected

if TYPE_CHECKING:
    import torch

    from bohdi_ray.training.objectives.logits import BatchTensors


@dataclass(frozen=True)
class ObjectiveOutput:
    """`terms`: a scalar sum with gradient for each term, those of the objective's `terms`. `measured`: [num_examples]
    float32, detached: each example's sum of what versions are compared by; lower is better."""

    terms: dict[str, torch.Tensor]
    measured: torch.Tensor


class Objective(Protocol):
    example: type[Example]
    """The kind of example it learns from."""
    terms: tuple[str, ...]
    """Names of its terms; their means are added up. The first one's count weighs a step's loss in the round's."""
    reference: Literal["round_start"] | None
    """Whose log-probabilities `loss` is given: with `round_start` those of the weights that the round began with, for
    the round's rows, scored before its first update: no second model."""
    selection: str
    """Name of the metric by which versions are compared on held-out examples; lower is better."""
    num_forwards: int
    """Forward passes of `loss`: as many are run on a rank that has no micro-batch left."""

    def encode(self, encoder: Encoder, example: Example) -> EncodedExample | str:
        """Rows of token ids, or why the example cannot be used. Never raises for what the example holds."""
        ...

    def counts(self, examples: Sequence[EncodedExample]) -> dict[str, int]:
        """By term, what its sum over these examples is divided by, once added up over all ranks."""
        ...

    def weight(self, example: EncodedExample) -> int:
        """What an example's `measured` is divided by, once added up."""
        ...

    def loss(self, model: Any, batch: BatchTensors, reference: torch.Tensor | None) -> ObjectiveOutput:
        """`reference`: [num_rows] float32, sums of log-probabilities of each row's answer; None where none is needed.
        The batch has at least one example."""
        ...


def encode_one(objective: Objective, encoder: Encoder, example: Example) -> EncodedExample | Rejected:
    """The example as the objective learns from it, or why it does not."""
    assert isinstance(example, objective.example), (example, objective.example)
    encoded = objective.encode(encoder, example)
    return Rejected(example.example_id, encoded) if isinstance(encoded, str) else encoded


def encode_all(
    objective: Objective, encoder: Encoder, examples: Sequence[Example]
) -> tuple[list[EncodedExample], list[Rejected]]:
    """All examples, in order, split into usable ones and the others."""
    every = [encode_one(objective, encoder, example) for example in examples]
    usable = [one for one in every if isinstance(one, EncodedExample)]
    return usable, [one for one in every if isinstance(one, Rejected)]
