"""The `training` section of the configuration: how the target learns, in one stage or in several.

Part of fusion_config.py, which says what the configuration is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from bohdi_ray.config.kinds.by_kind import ByKind
from bohdi_ray.config.kinds.objectives import OBJECTIVES, ObjectiveSection, SftObjective
from bohdi_ray.config.section_base import LabelSelector, Section


class ScheduleConfig(Section):
    """The learning rate over all rounds of the run, by optimizer step."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    """Shape after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the rate rises linearly: the first of w steps has 1/w of the full rate, the last all of it."""
    total_steps: int | None = Field(None, ge=1)
    """Step at which linear and cosine reach `min_ratio`. Default: what `stop.rounds` rounds take."""
    min_ratio: float = Field(0.1, ge=0, le=1)
    """Rate at the end, as a share of the full one."""


class RehearsalConfig(Section):
    """Against forgetting: what the target was sure of before the fusion stays among what it learns. Ours."""

    share: float = Field(0.25, ge=0, lt=1)
    """Largest share of a round's rows that are such questions, from all leaves alike, with the answers of version 0 of
    the target. 0 (the paper): none. For their sake the target's engines load version 0 now and then."""
    min_probability: float = Field(0.9, gt=0, le=1)
    """How sure version 0 must be of its answer: geometric mean probability per decoded token, of which the end of turn
    counts as certain."""
    questions_per_row: float = Field(0.5, gt=0)
    """Questions asked for each such row that a round wants. Where too few answers are sure, rows of earlier
    rounds are trained on again; until there are enough of them, there are fewer rows."""
    rounds_per_visit: int = Field(4, ge=1)
    """Number of rounds whose questions are asked together, after the first of these rounds. For each such visit the
    target's engines load version 0, and then their present weights again."""


class StageSettings(Section):
    """How the target learns: in `training` for the whole run, in an entry of `training.stages` for some rounds."""

    objective: Annotated[ObjectiveSection, ByKind(OBJECTIVES)] = SftObjective()
    """What is minimised."""
    learning_rate: float = Field(5e-6, ge=0)
    """Of AdamW. The paper: 5e-6."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate by step."""
    rehearsal: RehearsalConfig = RehearsalConfig()
    """Rows that keep what the target knew."""
    global_batch_size: int = Field(128, ge=1)
    """Most rows per optimizer step; a round's steps differ in size by at most one. The paper: 128."""
    micro_batch_size: int = Field(1, ge=1)
    """Rows (with packing: packs) a worker puts through the model at once."""
    max_length: int = Field(8192, ge=16)
    """Tokens a row may have; a longer one loses the end of its answer. The paper: 8192."""
    packing: bool = True
    """Put several rows into one sequence. How they are kept apart is tried on the model: in lines of a batch, in one
    line of `micro_batch_size` times `max_length` tokens, or else each row is padded."""
    gradient_clipping: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 turns clipping off. The paper: 1.0."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    max_rejected_fraction: float = Field(0.5, ge=0, le=1)
    """Largest share of a round's rows that may be without weight (the prompt too long, no answer left, a chat template
    that changes the prompt). With more the round is not trained, and the run ends as failed, with exit code 1."""


class StageConfig(StageSettings):
    """Rounds trained another way. What it leaves out is as in `training`; a section (`schedule`) counts whole."""

    rounds: int | None = Field(None, ge=1)
    """Rounds it lasts; the last stage lasts until the run ends."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


class TrainingConfig(StageSettings):
    """Fine-tuning of the target with DeepSpeed under Ray Train."""

    stages: tuple[StageConfig, ...] = ()
    """Stages, one after another: `[{rounds: 4}, {learning_rate: 8e-7}]`. Each has `rounds` and any of the settings from
    `objective` to `max_rejected_fraction`, and starts with the weights that the one before ended with, a new optimizer
    and its own schedule. `best` and `stop.no_gain_rounds` compare versions of the present stage. Default: one stage."""
    reasoning: Literal["off", "keep"] = "off"
    """For a target that can think. `off`: it is asked not to, and rows teach how it answers when asked so. `keep`: it
    is asked to think, and rows teach the winner's reasoning with its answer, where the winner reasoned and both fit
    `max_length`; all other rows are as with `off`, so that none teaches not to think."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of training; the optimizer keeps float32 masters. Few CPUs have instructions for
    bfloat16: take float32 there."""
    attn_implementation: str | None = None
    """transformers' attention implementation. Default: by the target's family, for Gemma 2 `eager`, because `sdpa`
    leaves out the cap on its attention logits; else `sdpa`. One that computes the target wrong is refused."""
    reset_optimizer: bool = False
    """Start AdamW afresh every round. The paper: true."""
    num_workers: int = Field(1, ge=1, le=4096)
    """Train workers (ranks)."""
    resources_per_worker: dict[str, float] = Field({"CPU": 1})
    """Ray resources of one worker; `GPU: 1` is added where the cluster has GPUs and none is named."""
    label_selector: LabelSelector = Field({})
    """Ray labels of the nodes train workers may sit on, written as a model's `resources.label_selector`."""
    deepspeed: dict[str, Any] = Field({"zero_optimization": {"stage": 2}})
    """A plain DeepSpeed configuration; batch sizes, precision, clipping and optimizer are filled in from above."""
    save_optimizer_every: int = Field(1, ge=1)
    """Rounds between saved optimizer states; weights are committed every round."""
    keep_checkpoints: int = Field(3, ge=1)
    """Newest committed rounds kept, beside version 0, the best one, and any a harvest may still use."""
    max_failures: int = Field(3, ge=0)
    """Times Ray Train may restart the workers."""
    heldout_rows_per_round: int = Field(100, ge=1)
    """Most held-out rows that are measured after each round: always those whose sample ids have the lowest hashes, so
    that versions are compared on the same rows. At the end of the run all held-out rows are measured."""

    @field_validator("stages")
    @classmethod
    def _each_but_the_last_has_rounds(cls, value: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        for number, stage in enumerate(value):
            last = number == len(value) - 1
            if stage.rounds is None and not last:
                raise ValueError(f"stage {number} needs `rounds`: only the last one lasts until the run ends")
            if stage.rounds is not None and last:
                raise ValueError(f"stage {number}, the last one, lasts until the run ends; give stop.rounds instead")
        return value

    def spans(self, num_rounds: int) -> list[tuple[int, int]]:
        """(First round, number of rounds) of each stage that begins within the first `num_rounds` rounds."""
        found, first = [], 0
        for stage in self.stages or (StageConfig(),):
            if first < num_rounds:
                num = num_rounds - first if stage.rounds is None else min(stage.rounds, num_rounds - first)
                found.append((first, num))
                first += num
        return found

    def stage(self, round: int) -> int:
        """The stage of a round, both counted from 0."""
        return len(self.spans(round + 1)) - 1

    def in_newest_stage(self, versions: Iterable[int], newest: int) -> list[int]:
        """Those weights versions that are of the same stage as version `newest`: only they are compared."""
        stage = self.stage(max(0, newest - 1))
        return [version for version in versions if self.stage(max(0, version - 1)) == stage]

    def starts_stage(self, round: int) -> bool:
        """Whether a round is the first one of a stage."""
        return self.spans(round + 1)[-1][0] == round

    def at(self, round: int) -> TrainingConfig:
        """These settings as they are for a round: those of its stage before those of the whole run."""
        if not self.stages:
            return self
        stage = self.stages[self.stage(round)]
        own = {name: getattr(stage, name) for name in stage.model_fields_set - {"rounds"}}
        return self.model_copy(update={**own, "stages": ()})

    def key(self, round: int, name: str) -> str:
        """The dotted key at which a round's stage has a setting from: its own, or the whole run's."""
        stage = self.stage(round)
        own = self.stages and name in self.stages[stage].model_fields_set
        return f"training.stages.{stage}.{name}" if own else f"training.{name}"
