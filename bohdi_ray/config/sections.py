"""Sections of the configuration that come in one kind: tree, rounds, harvest, stop, deadlines.

Part of fusion_config.py, which says what the configuration is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from bohdi_ray.config.section_base import Section
from bohdi_ray.languages.length import LengthUnit
from bohdi_ray.records import MAX_STEPS, MAX_TICKETS

# The paper's six ways to ask (section 4 of the method), in our own words.
DEFAULT_STYLES = (
    "a hard problem that has to be solved step by step",
    "an open-ended question that several points of view can answer well",
    "a task that needs a short program or piece of code",
    "a comparison that is best answered with a table",
    "a question that links this field to a different one",
    "an everyday conversation in which a person asks for help, in a clearly set tone",
)


class TreeConfig(Section):
    """The knowledge tree (method, section 1)."""

    depth: int = Field(3, ge=1, le=64)
    """Levels below the root; leaves are questions' domains."""
    level_names: tuple[str, ...] | None = None
    """What a child is called in prompts, by level. Default for depth 3: main domain, secondary domain, sub-domain."""
    seed: str | None = None
    """A YAML file of starting domains (nested mappings and lists), validated like proposals."""
    max_children: tuple[int, ...] | None = None
    """Most children of a node, by level of the child; there the node's `unk` arm is closed. Default: no limit."""

    @model_validator(mode="after")
    def _per_level(self) -> TreeConfig:
        for name in ("level_names", "max_children"):
            value = getattr(self, name)
            if value is not None and len(value) != self.depth:
                raise ValueError(f"{name} has {len(value)} entries; it needs one per level, {self.depth}")
        if self.max_children is not None and min(self.max_children) < 1:
            raise ValueError("max_children must be 1 or more at every level")
        return self


class SproutConfig(Section):
    """How new domains are found (method, section 3)."""

    proposals_per_source: int = Field(5, ge=1)
    """Names each source proposes per election (n)."""
    max_failures: int = Field(10, ge=1)
    """Failed elections of one walk at one node after which the node's `unk` arm is closed for the round."""
    reuse_ballots: bool = True
    """Losing names stay as votes at their node, so its next sprout needs no generation. The paper: false."""
    vary_initials: bool = True
    """Later elections at a node ask for names that begin with a random half of the letters: ours. The paper: false."""
    min_support: int = Field(0, ge=0)
    """A proposed name counts only if at least this many sources find it likely; 0 (the paper): nobody is asked. While
    fewer sources take part, all of them."""
    # Measured with SmolLM2-135M-Instruct: 25 of 26 sensible names and 1 of 22 absurd or misplaced ones reach 1e-5.
    support_probability: float = Field(1e-5, gt=0, lt=1)
    """What a source finds likely: the probability of the name as its first entry under the prompt."""
    requests_ahead: int = Field(1, ge=0)
    """Further elections at a waiting node whose proposals are requested before they are needed."""


class MeditationConfig(Section):
    """Exploring: the harvest part of a round (method, section 7)."""

    steps: int = Field(3, ge=1, le=MAX_STEPS)
    """Steps per round (M)."""
    walks_per_step: int = Field(30, ge=1, le=MAX_TICKETS)
    """Walks, and so harvests, per step (B_m)."""


class EnlightenmentConfig(Section):
    """Which rows the target learns from in a round (method, section 7)."""

    rows: Literal["drawn", "each_once"] = "drawn"
    """`drawn` (the paper): walks over all trainable samples so far, with replacement, steered by the bandit.
    `each_once`: every sample of the round once an epoch, in seeded order."""
    epochs: int = Field(1, ge=1)
    """With `each_once`: times that a round trains on its samples, each time in another order."""
    steps: int = Field(3, ge=1)
    """With `drawn`: batches of draws (E)."""
    rows_per_step: int = Field(60, ge=1)
    """With `drawn`: rows per batch (B_e); a round trains on steps * rows_per_step rows."""

    @model_validator(mode="after")
    def _epochs_of_each_once(self) -> EnlightenmentConfig:
        if self.rows == "drawn" and self.epochs > 1:
            raise ValueError(
                "epochs belongs to rows: each_once; drawn rows come with replacement, so set rows_per_step"
            )
        return self


class HarvestConfig(Section):
    """How samples are made (method, section 4), and how much of it at a time."""

    styles: tuple[str, ...] = DEFAULT_STYLES
    """Ways to ask; one is drawn uniformly per ticket."""
    min_question_chars: int = Field(30, ge=0)
    """A question must be longer than this, in `length_unit`."""
    min_answer_chars: int = Field(30, ge=0)
    """An answer must be longer than this, in `length_unit`."""
    length_unit: LengthUnit = "weighted"
    """What lengths are counted in. `weighted`: letters' worth, fair to all scripts: an ideograph counts 3, kana and
    Hangul 2, a letter 1, accents 0 (docs/languages.md). `characters` (the paper): Unicode code points."""
    question_attempts: int = Field(2, ge=1)
    """Tries to get a valid question before the ticket fails."""
    heldout_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of questions kept for measuring: they are never trained on and give no credit. The paper: 0."""
    max_staleness: Literal[0, 1, 2] = 1
    """Round r harvests with the target of round r minus this. 0 (the paper): harvest, then train; 1: both at once."""
    step_lag: int = Field(1, ge=0)
    """The walks of step s see the credit committed through step s - 1 - step_lag. The paper: 0."""
    max_tasks_in_flight: int = Field(16, ge=1)
    """Harvest tasks at a time."""
    tickets_per_task: int = Field(4, ge=1)
    """Most tickets one task works on, all at once."""
    min_sources: int = Field(1, ge=1)
    """A run needs at least this many sources: one that stays down is left out for the time while so many are left."""
    shortage: Literal["go_on", "stop"] = "go_on"
    """When an engine finds no room within `deadlines.placement_s`: continue with fewer while each model that is
    needed has one, and try again with pauses; or stop the run."""
    prompts: str | None = None
    """A folder whose *.jinja files replace the prompt templates of the same name."""

    @field_validator("styles")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not style.strip() for style in value):
            raise ValueError("needs at least one style, none of them empty")
        return value


class StopConfig(Section):
    """When the run ends; the first rule that holds wins, at the end of a round."""

    rounds: int = Field(19, ge=1)
    """Rounds. The paper: about 19."""
    samples: int | None = Field(None, ge=1)
    """Accepted samples."""
    decoded_tokens: int | None = Field(None, ge=1)
    """Tokens decoded by all models."""
    wall_time_s: float | None = Field(None, gt=0)
    """Seconds since the run began."""
    cost: float | None = Field(None, gt=0)
    """Spent on remote sources, in the currency of their prices."""
    no_gain_rounds: int | None = Field(None, ge=1)
    """Rounds in a row without a lower held-out loss."""
    empty_rounds: int = Field(2, ge=1)
    """Rounds in a row without a single sample after which the run ends as failed, with exit code 1."""


class DeadlineConfig(Section):
    """Longest waits, s. A passed deadline replaces a part or stops the run; it never fails a ticket."""

    start_s: float = Field(1800, gt=0)
    """For an engine or a train worker to be up, its model loaded."""
    placement_s: float = Field(600, gt=0)
    """For Ray to find room."""
    request_s: float = Field(900, gt=0)
    """For one request to an engine."""
    idle_s: float = Field(120, gt=0)
    """Without a token while requests are in flight, after which an engine counts as hung."""
    train_step_s: float = Field(3600, gt=0)
    """For one training step or the saving of a round."""
    weights_s: float = Field(600, gt=0)
    """For a replica to load new weights and prove them."""
    drain_s: float = Field(60, gt=0)
    """For work under way after Ctrl-C."""


class WeightsConfig(Section):
    """How new weights are proved live on the target's engines."""

    tolerance: float = Field(0.15, gt=0)
    """Largest mean absolute difference per token of trainer and engine log-probabilities on the probe prompts, nats."""


class ObserveConfig(Section):
    """What is written for people to watch. metrics.jsonl is always written."""

    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where the figures also go. TensorBoard: event files in RUN/tensorboard. Weights & Biases and MLflow are extras
    (`pip install wandb`, `pip install mlflow-skinny`) and find their servers by their own variables: WANDB_API_KEY,
    MLFLOW_TRACKING_URI."""
    trackers_offline: bool = False
    """Weights & Biases and MLflow ask no server, but write to RUN/wandb and RUN/mlflow."""
    project: str = Field("bohdi_ray", min_length=1, max_length=100, pattern=r"^[\w.-]+$")
    """The project (Weights & Biases) or experiment (MLflow) that the run belongs to there."""
    tensorboard: bool = False
    """The same as `tensorboard` among the trackers."""
    console: Literal["auto", "live", "lines", "quiet"] = "auto"
    """A live view on a terminal, plain lines otherwise."""
