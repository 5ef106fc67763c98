"""Settings with which a run would finish all its rounds without learning anything. Pure; part of the preflight.

Each value is valid for its field; only the numbers of a whole round or run show that nothing would be learned.
"""

from __future__ import annotations

from collections.abc import Iterator

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import ConfigError


def stage_errors(config: FusionConfig) -> list[ConfigError]:
    """Stages that never begin. A run that is resumed may end earlier than it was to end when it began."""
    stages, num_begun = config.training.stages, len(config.first_rounds)
    if num_begun >= len(stages):
        return []
    first = sum(stage.rounds or 0 for stage in stages[:num_begun])
    rule = f"stage {num_begun} would begin with round {first}, and stop.rounds is {config.stop.rounds}"
    remedy = "Raise stop.rounds, shorten the stages before it, or remove the stage."
    return [ConfigError(f"training.stages.{num_begun - 1}.rounds", stages[num_begun - 1].rounds, rule, remedy)]


def learning_errors(config: FusionConfig) -> list[ConfigError]:
    """Every such setting."""
    stages = ((*_of_the_rate(config, first), *_of_adam(config, first)) for first in config.first_rounds)
    found = {error.field: error for stage in stages for error in stage}  # one for a setting that stages share
    return [*found.values(), *_of_the_rows(config)]


def _of_the_rate(config: FusionConfig, round: int) -> Iterator[ConfigError]:
    """Of the stage that begins with `round`."""
    training, schedule = config.training.at(round), config.training.at(round).schedule
    if training.learning_rate == 0:
        remedy = "Set a rate above 0; the paper's is 5e-6."
        key = config.training.key(round, "learning_rate")
        yield ConfigError(key, 0, "with it the target learns nothing", remedy)
        return
    num_steps = config.most_steps_of_stage(round)
    if schedule.warmup_steps > num_steps:
        whole = "all rounds together have" if not config.training.stages else "all rounds of the stage together have"
        rule = f"{whole} at most {num_steps} steps, so the full learning rate is never reached"
        remedy = f"Lower it to a small part of {num_steps}, or raise stop.rounds."
        key = config.training.key(round, "schedule")
        yield ConfigError(f"{key}.warmup_steps", schedule.warmup_steps, rule, remedy)


def _of_adam(config: FusionConfig, round: int) -> Iterator[ConfigError]:
    """Of the stage that begins with `round`."""
    training = config.training.at(round)
    betas, rate, decay = training.betas, training.learning_rate, training.weight_decay
    if not all(0 <= beta < 1 for beta in betas):
        rule = "AdamW's decay rates are 0 or more and below 1: at 1 no gradient ever counts"
        yield ConfigError(config.training.key(round, "betas"), list(betas), rule, "Use [0.9, 0.999].")
    if rate * decay >= 1:
        rule = f"with a learning rate of {rate:g} one step takes all of each weight away"
        key = config.training.key(round, "weight_decay")
        yield ConfigError(key, decay, rule, "Use 0, or a number like 0.01.")


def _of_the_rows(config: FusionConfig) -> Iterator[ConfigError]:
    heldout, walks = config.harvest.heldout_fraction, config.walks_per_round
    left = walks * (1 - heldout)
    if left < 1:
        rule = f"only {left:.2g} of the {walks} harvests of a round remain to learn from"
        remedy = f"Hold out less, 0.1 for example, or raise meditation.walks_per_step ({walks} walks a round now)."
        yield ConfigError("harvest.heldout_fraction", heldout, rule, remedy)
