"""Results that a learner reports for a step and for a held-out example."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one global step, the same on every rank."""

    loss: float  # the means of the objective's terms, added up; for sft per answer token; 0 when there was none
    num_answer_tokens: int
    num_tokens: int
    num_rows: int
    num_rejected: int  # rows without weight: too long, no answer left, not encodable
    grad_norm: float
    learning_rate: float
    rejected: dict[str, int] = field(default_factory=dict)  # the same rows by reason
    terms: dict[str, float] = field(default_factory=dict)  # the mean of each term


@dataclass(frozen=True, slots=True)
class RowLoss:
    """A held-out example by the objective's selection metric: a sum and its weight (sums are divided by weights after
    adding up). For sft the loss over its answer tokens, natural log, and their number."""

    example_id: str
    loss_sum: float
    num_tokens: int
