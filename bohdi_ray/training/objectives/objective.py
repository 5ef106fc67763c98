"""The interface of an objective: the kind of example it needs, how it is encoded, its terms and their counts, its loss.

An objective maps a model and a batch to *sums*, one per term; the learner divides each by the term's count over all
ranks, known before the first forward of a step, so that gradients do not depend on the number of ranks or
micro-batches. Each objective has one file in this folder, named as its `kind:` in the configuration. Importing it must
not import torch, because the encoder runs without it.
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
    """`terms`: for each of the objective's terms a scalar sum with gradient. `measured`: [num_examples] float32,
    detached: each example's sum of the metric by which versions are compared; lower is better."""

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
        """For each term, the count of these examples; its sum over all ranks is what the term's sum is divided by."""
        ...

    def weight(self, example: EncodedExample) -> int:
        """The weight of an example: the sum of `measured` over examples is divided by the sum of their weights."""
        ...

    def loss(self, model: Any, batch: BatchTensors, reference: torch.Tensor | None) -> ObjectiveOutput:
        """`reference`: [num_rows] float32, sums of log-probabilities of each row's answer; None where none is needed.
        The batch has at least one example."""
        ...


def encode_one(objective: Objective, encoder: Encoder, example: Example) -> EncodedExample | Rejected:
    """The example as the objective learns from it, or why it cannot."""
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
