"""Decides when too many of a round's rows carry no weight to train on it, and says why and what to do. Pure.

The train loop decides, before the round is committed; the queue carries the decision to the driver, which ends the run.
A run that is resumed trains the round from its recorded rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bohdi_ray.config import TrainingConfig

REMEDIES = {
    "prompt_too_long": "raise training.max_length ({max_length}), which has no room for the prompt",
    "not_prefix_stable": "the target's chat template changes the prompt once an answer follows (templates that drop or "
    "move the system prompt do): start a new run without target.system_prompt, or with a template that keeps it",
    "no_answer_tokens": "the answers are empty without the target's control tokens: look at the samples",
    "tokenizer_error": "the target's chat template fails on these texts: see the train workers' logs",
}
OTHERWISE = "see the train workers' logs"


@dataclass(frozen=True, slots=True)
class RoundRefused:
    """A round that was refused and not committed."""

    round: int
    num_rows: int
    rejected: Mapping[str, int]  # rows without weight, by reason
    max_fraction: float  # training.max_rejected_fraction
    max_length: int  # training.max_length

    def text(self) -> str:
        """The reason and what to do."""
        reasons = sorted(self.rejected, key=lambda reason: (-self.rejected[reason], reason))
        counts = ", ".join(f"{self.rejected[reason]} {reason}" for reason in reasons)
        remedies = dict.fromkeys(REMEDIES.get(reason, OTHERWISE) for reason in reasons)
        remedy = "; ".join(text.format(max_length=self.max_length) for text in remedies)
        return (
            f"{sum(self.rejected.values())} of {self.num_rows} training rows of round {self.round} were rejected "
            f"({counts}), a larger share than training.max_rejected_fraction = {self.max_fraction:g}; the "
            f"round is not trained. {remedy[0].upper()}{remedy[1:]}. To continue, training the round again: "
            "bohdi resume RUN KEY=VALUE"
        )


def refusal(training: TrainingConfig, round: int, num_rows: int, rejected: Mapping[str, int]) -> RoundRefused | None:
    """The refusal of a round with `rejected` of `num_rows` rows; None if they are few enough, or if there are no rows
    at all."""
    if sum(rejected.values()) <= training.max_rejected_fraction * num_rows:
        return None
    return RoundRefused(round, num_rows, dict(rejected), training.max_rejected_fraction, training.max_length)
