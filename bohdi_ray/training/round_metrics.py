"""Figures of one round of training: sums over its steps, kept by every rank, and the metrics that rank 0 reports."""

from __future__ import annotations

import resource
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from bohdi_ray.training.results import RowLoss, StepResult


@dataclass
class RoundSums:
    """Sums over the steps of one round on this rank; `seconds` by part."""

    steps: list[StepResult] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    put_to_step_s: float | None = None
    stepped_at: float = 0.0  # end of the last optimizer step, Unix time, s
    # Of all ranks, in a checkpoint within the round: what its rows' reference said, by example.
    reference: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Number of rows received by all ranks, used for training or not."""
        return sum(step.num_rows for step in self.steps)

    @property
    def num_rejected(self) -> int:
        """Number of these rows that carry no weight."""
        return sum(step.num_rejected for step in self.steps)

    @property
    def rejected(self) -> dict[str, int]:
        """Number of rejected rows by reason."""
        return dict(sum((Counter(step.rejected) for step in self.steps), Counter()))

    def to_json(self) -> dict[str, Any]:
        """As plain data, for a checkpoint within the round."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "seconds": dict(self.seconds),
            "put_to_step_s": self.put_to_step_s,
            "stepped_at": self.stepped_at,
            "reference": self.reference,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> RoundSums:
        """The inverse of `to_json`."""
        steps = [StepResult(**step) for step in plain["steps"]]
        reference = {one: tuple(values) for one, values in plain.get("reference", {}).items()}
        seconds = defaultdict(float, plain["seconds"])
        return cls(steps, seconds, plain["put_to_step_s"], plain["stepped_at"], reference)


def round_metrics(tally: RoundSums, heldout: list[RowLoss], num_heldout: int = 0) -> dict[str, Any]:
    """Metrics of one round. Losses are per answer token; `heldout_rows` maps ids to (loss sum, tokens), for those of
    `num_heldout` rows that could be evaluated."""
    steps, seconds = tally.steps, tally.seconds
    answer_tokens = sum(s.num_answer_tokens for s in steps)
    tokens = sum(s.num_tokens for s in steps)
    heldout_tokens = sum(row.num_tokens for row in heldout)
    return {
        "loss": sum(s.loss * s.num_answer_tokens for s in steps) / answer_tokens if answer_tokens else None,
        "step_losses": [s.loss for s in steps],
        "num_steps": len(steps),
        "num_rows": tally.num_rows - tally.num_rejected,
        "num_rejected_rows": tally.num_rejected,
        "rejected_rows": tally.rejected,
        "num_tokens": tokens,
        "num_answer_tokens": answer_tokens,
        "tokens_per_s": tokens / seconds["stepping"] if seconds["stepping"] else 0.0,
        "grad_norm": max((s.grad_norm for s in steps), default=0.0),
        "learning_rate": steps[-1].learning_rate if steps else 0.0,
        "put_to_step_s": tally.put_to_step_s,
        "seconds": dict(seconds),
        "heldout_loss": sum(row.loss_sum for row in heldout) / heldout_tokens if heldout_tokens else None,
        "num_heldout_rows": len(heldout),
        "num_heldout_rejected": max(0, num_heldout - len(heldout)),
        "heldout_rows": {row.example_id: (row.loss_sum, row.num_tokens) for row in heldout},
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "stepped_at": tally.stepped_at,
        "committed_at": time.time(),
    }
