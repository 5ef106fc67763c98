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
    """Number of levels below the root; the leaves are the domains of questions."""
    level_names: tuple[str, ...] | None = None
    """What a child is called in prompts, by level. Default for depth 3: main domain, secondary domain, sub-domain."""
    seed: str | None = None
    """A YAML file of starting domains (nested mappings and lists), validated like proposals."""
    max_children: tuple[int, ...] | None = None
    """Largest number of children of a node, by level of the child; then its `unk` arm is closed. Default: no limit."""

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
    """Number of names that each source proposes per election (n)."""
    max_failures: int = Field(10, ge=1)
    """Number of failed elections of one walk at one node after which the node's `unk` arm is closed for the round."""
    reuse_ballots: bool = True
    """Losing names stay as votes at their node, so that its next election needs no generation. The paper: false."""
    vary_initials: bool = True
    """Later elections at a node ask for names that begin with a random half of the letters: ours. The paper: false."""
    min_support: int = Field(0, ge=0)
    """A proposed name counts only if at least this many sources find it likely, or all if fewer are available; 0 (the
    paper): sources are not asked."""
    # Measured with SmolLM2-135M-Instruct: 25 of 26 sensible names and 1 of 22 absurd or misplaced ones reach 1e-5.
    support_probability: float = Field(1e-5, gt=0, lt=1)
    """A source finds a name likely if the name has at least this probability as the first entry after the prompt."""
    requests_ahead: int = Field(1, ge=0)
    """Number of further elections at a waiting node whose proposals are requested before they are needed."""


class MeditationConfig(Section):
    """Exploring: the harvest part of a round (method, section 7)."""

    steps: int = Field(3, ge=1, le=MAX_STEPS)
    """Number of steps per round (M)."""
    walks_per_step: int = Field(30, ge=1, le=MAX_TICKETS)
    """Number of walks, and so of harvests, per step (B_m)."""


class EnlightenmentConfig(Section):
    """Which rows the target learns from in a round (method, section 7)."""

    rows: Literal["drawn", "each_once"] = "drawn"
    """`drawn` (the paper): walks over all trainable samples so far, with replacement, steered by the bandit.
    `each_once`: every sample of the round once per epoch, in seeded order."""
    epochs: int = Field(1, ge=1)
    """With `each_once`: number of times that a round trains on its samples, each time in another order."""
    steps: int = Field(3, ge=1)
    """With `drawn`: number of batches of draws (E)."""
    rows_per_step: int = Field(60, ge=1)
    """With `drawn`: number of rows per batch (B_e); a round trains on steps * rows_per_step rows."""

    @model_validator(mode="after")
    def _epochs_of_each_once(self) -> EnlightenmentConfig:
        if self.rows == "drawn" and self.epochs > 1:
            raise ValueError(
                "epochs belongs to rows: each_once; drawn rows come with replacement, so set rows_per_step"
            )
        return self


class HarvestConfig(Section):
    """How samples are made (method, section 4), and how many at a time."""

    styles: tuple[str, ...] = DEFAULT_STYLES
    """Styles of questions; one is drawn uniformly per ticket."""
    min_question_chars: int = Field(30, ge=0)
    """A question must be longer than this, in `length_unit`."""
    min_answer_chars: int = Field(30, ge=0)
    """An answer must be longer than this, in `length_unit`."""
    length_unit: LengthUnit = "weighted"
    """Unit of text lengths. `weighted`: in units of one letter, fair to all scripts: an ideograph counts 3, kana and
    Hangul 2, a letter 1, accents 0 (docs/languages.md). `characters` (the paper): Unicode code points."""
    question_attempts: int = Field(2, ge=1)
    """Number of attempts to get a valid question before the ticket fails."""
    heldout_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of questions kept for evaluation: they are never trained on and give no credit. The paper: 0."""
    max_staleness: Literal[0, 1, 2] = 1
    """Round r harvests with the target of round r minus this. 0 (the paper): harvest, then train; 1: at the same
    time."""
    step_lag: int = Field(1, ge=0)
    """The walks of step s see the credit committed through step s - 1 - step_lag. The paper: 0."""
    max_tasks_in_flight: int = Field(16, ge=1)
    """Largest number of concurrent harvest tasks."""
    tickets_per_task: int = Field(4, ge=1)
    """Largest number of tickets of one task, which works on them concurrently."""
    min_sources: int = Field(1, ge=1)
    """Least number of available sources. A source that stays down is skipped while at least this many remain; with
    fewer, the run stops."""
    shortage: Literal["go_on", "stop"] = "go_on"
    """If there is no capacity for an engine within `deadlines.placement_s`: `go_on` continues with fewer engines, as
    long as every required model has one, and tries again at intervals; `stop` stops the run."""
    prompts: str | None = None
    """A folder whose *.jinja files replace the prompt templates of the same name."""

    @field_validator("styles")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not style.strip() for style in value):
            raise ValueError("needs at least one style, none of them empty")
        return value


class StopConfig(Section):
    """When the run ends. Rules are checked at the end of each round; the first rule that holds ends the run."""

    rounds: int = Field(19, ge=1)
    """Number of rounds. The paper: about 19."""
    samples: int | None = Field(None, ge=1)
    """Number of accepted samples."""
    decoded_tokens: int | None = Field(None, ge=1)
    """Number of tokens decoded by all models. What is decoded for the rehearsal of a later round counts with that
    round."""
    wall_time_s: float | None = Field(None, gt=0)
    """Seconds since the run began."""
    cost: float | None = Field(None, gt=0)
    """Cost of remote sources, in the currency of their prices."""
    no_gain_rounds: int | None = Field(None, ge=1)
    """Number of rounds in a row without a lower held-out loss."""
    empty_rounds: int = Field(2, ge=1)
    """Number of rounds in a row without a single sample after which the run ends as failed, with exit code 1."""


class DeadlineConfig(Section):
    """Longest waits, s. When a deadline passes, a component is replaced or the run stops; a ticket never fails for
    it."""

    start_s: float = Field(1800, gt=0)
    """For starting an engine or a train worker, including loading its model."""
    placement_s: float = Field(600, gt=0)
    """For Ray to find capacity for an engine."""
    request_s: float = Field(900, gt=0)
    """For one request to an engine."""
    idle_s: float = Field(120, gt=0)
    """Longest time without a token while requests are in flight; after it an engine counts as hung."""
    train_step_s: float = Field(3600, gt=0)
    """For one training step or for saving a round."""
    weights_s: float = Field(600, gt=0)
    """For a replica to load and verify new weights."""
    drain_s: float = Field(60, gt=0)
    """For finishing work in progress after Ctrl-C."""


class EvaluateConfig(Section):
    """Scores of the target on benchmark tasks during the run, by its own engines while they wait for the trainer. Needs
    the extra `eval`; docs/evaluation.md says what tasks there are."""

    every: int = Field(0, ge=0)
    """Evaluate each n-th weights version, version 0 and the newest one among them. 0: none."""
    tasks: tuple[str, ...] = ()
    """Tasks of lm-eval, suites, and folders of tasks (`./…` is beside the configuration file)."""
    limit: int | None = Field(100, ge=1)
    """Number of questions of each task, the first ones. `null`: all."""
    num_fewshot: int | None = Field(None, ge=0)
    """Number of examples before each question. Default: the task's own."""
    chat: bool = False
    """Whether to apply the target's chat template."""
    chooses_best: bool = False
    """Whether RUN/best is the version with the highest mean score over the tasks, instead of the one with the lowest
    held-out loss. Versions that are not evaluated cannot be chosen."""

    @model_validator(mode="after")
    def _has_tasks(self) -> EvaluateConfig:
        if self.every and not self.tasks:
            raise ValueError("every asks for evaluations, and tasks names none")
        if self.chooses_best and not self.every:
            raise ValueError("chooses_best needs evaluations: set every")
        return self


class WeightsConfig(Section):
    """How the target's engines verify new weights."""

    tolerance: float = Field(0.15, gt=0)
    """Largest mean absolute difference per token of trainer and engine log-probabilities on the probe prompts, nats."""


class ObserveConfig(Section):
    """Metrics and console output. metrics.jsonl is always written."""

    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Trackers to which the metrics are also sent. TensorBoard: event files in RUN/tensorboard. Weights & Biases and
    MLflow are extras (`pip install wandb`, `pip install mlflow-skinny`) and use their own variables to find their
    servers: WANDB_API_KEY, MLFLOW_TRACKING_URI."""
    trackers_offline: bool = False
    """Weights & Biases and MLflow contact no server, but write to RUN/wandb and RUN/mlflow."""
    project: str = Field("bohdi_ray", min_length=1, max_length=100, pattern=r"^[\w.-]+$")
    """The project (Weights & Biases) or experiment (MLflow) that the run belongs to there."""
    tensorboard: bool = False
    """The same as listing `tensorboard` in `trackers`."""
    console: Literal["auto", "live", "lines", "quiet"] = "auto"
    """A live view on a terminal, plain lines otherwise."""
