"""Settings with which a run would go through all its rounds and learn nothing. Pure; part of the preflight.

Each is allowed by its own field; that nothing comes of them shows in numbers of a whole round or run only.
"""

from __future__ import annotations

from collections.abc import Iterator

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError


def learning_errors(config: FusionConfig) -> list[ConfigError]:
    """Every such setting."""
    return [*_of_the_rate(config), *_of_adam(config), *_of_the_rows(config)]


def _of_the_rate(config: FusionConfig) -> Iterator[ConfigError]:
    training, schedule = config.training, config.training.schedule
    if training.learning_rate == 0:
        remedy = "Set a rate above 0; the paper's is 5e-6."
        yield ConfigError("training.learning_rate", 0, "with it the target learns nothing", remedy)
        return
    num_steps = config.most_steps()
    if schedule.warmup_steps > num_steps:
        rule = f"all rounds together have at most {num_steps} steps, so the full learning rate is never reached"
        remedy = f"Lower it to a small part of {num_steps}, or raise stop.rounds."
        yield ConfigError("training.schedule.warmup_steps", schedule.warmup_steps, rule, remedy)


def _of_adam(config: FusionConfig) -> Iterator[ConfigError]:
    betas = config.training.betas
    if not all(0 <= beta < 1 for beta in betas):
        rule = "AdamW's decay rates are 0 or more and below 1: at 1 no gradient ever counts"
        yield ConfigError("training.betas", list(betas), rule, "Use [0.9, 0.999].")
    rate, decay = config.training.learning_rate, config.training.weight_decay
    if rate * decay >= 1:
        rule = f"with a learning rate of {rate:g} one step takes all of each weight away"
        yield ConfigError("training.weight_decay", decay, rule, "Use 0, or a number like 0.01.")


def _of_the_rows(config: FusionConfig) -> Iterator[ConfigError]:
    heldout, walks = config.harvest.heldout_fraction, config.walks_per_round
    left = walks * (1 - heldout)
    if left < 1:
        rule = f"of the {walks} harvests of a round {left:.2g} are left to learn from"
        remedy = f"Hold out less, 0.1 for example, or raise meditation.walks_per_step ({walks} walks a round now)."
        yield ConfigError("harvest.heldout_fraction", heldout, rule, remedy)
