"""The whole configuration of a fusion, with its rules. No defaults live anywhere else.

Every section is a pydantic model; unknown keys are refused. The sections are in `models.py`, `training.py`,
`sections.py` and, where there are several kinds of one, in `kinds/`. Rules that one section can check alone are in it,
rules between sections in `FusionConfig`. Whether folders exist, templates are there and cards suffice is checked in
`preflight/`, above this room. Where the paper fixes a value and the default differs, the field says so;
`presets/paper.py` holds all of the paper's.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bohdi_ray.config.addresses import secret_in
from bohdi_ray.config.choices.colocate import errors_of_colocate, with_colocate
from bohdi_ray.config.choices.corpus import errors_of_corpus, with_corpus
from bohdi_ray.config.kinds.bandits import BANDITS, BanditSection, DynamicThompsonBandit
from bohdi_ray.config.kinds.by_kind import ByKind, in_words
from bohdi_ray.config.kinds.judges import JUDGES, MOST_ANSWERS, JudgeSection, LeaderJudge
from bohdi_ray.config.kinds.questions import QUESTIONS, AskedQuestions, QuestionsSection
from bohdi_ray.config.models import (
    OpenAIModel,
    SourceModel,
    VllmModel,
)
from bohdi_ray.config.presets import with_preset
from bohdi_ray.config.section_base import SWITCHES, Section
from bohdi_ray.config.sections import (
    DeadlineConfig,
    EnlightenmentConfig,
    EvaluateConfig,
    HarvestConfig,
    MeditationConfig,
    ObserveConfig,
    SproutConfig,
    StopConfig,
    TreeConfig,
    WeightsConfig,
)
from bohdi_ray.config.training import TrainingConfig
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.records import ROLES


class FusionConfig(Section):
    """A whole fusion."""

    run_dir: str
    """Where the run writes everything: a path that every node sees, or an address of an object store (`s3://bucket/run`,
    `gs://…`), its settings in the query (`?region=…&endpoint_override=…`); `{time}` in it gives each start
    a name of its own."""
    preset: Literal["paper"] | None = None
    """Fills in settings that the file and overrides leave out: `paper` sets the values of arXiv 2506.15721."""
    nodes: tuple[dict[str, Any], ...] = ()
    """The nodes that an autoscaling cluster may have, in the format of `bohdi plan --nodes`: the run must fit on them.
    Default: the nodes that exist when it starts."""
    placement: Literal["separate", "colocate"] = "separate"
    """`separate`: harvest and training have GPUs of their own. `colocate`: they take turns on the same GPUs, first a
    round's harvest, then its training; sleeping engines and a resting trainer keep their state in main memory. Implies
    `harvest.max_staleness: 0`."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of all random draws."""
    sources: tuple[SourceModel, ...]
    """The teacher models."""
    target: VllmModel
    """The student model."""
    tree: TreeConfig = TreeConfig()
    """The knowledge tree."""
    sprout: SproutConfig = SproutConfig()
    """Finding new domains."""
    bandit: Annotated[BanditSection, ByKind(BANDITS)] = DynamicThompsonBandit()
    """How walks are steered."""
    meditation: MeditationConfig = MeditationConfig()
    """Walks per round."""
    enlightenment: EnlightenmentConfig = EnlightenmentConfig()
    """Training rows per round."""
    questions: Annotated[QuestionsSection, ByKind(QUESTIONS)] = AskedQuestions()
    """Where questions come from."""
    harvest: HarvestConfig = HarvestConfig()
    """Making samples."""
    judge: Annotated[JudgeSection, ByKind(JUDGES)] = LeaderJudge()
    """Choosing the best answer."""
    training: TrainingConfig = TrainingConfig()
    """Fine-tuning the target."""
    weights: WeightsConfig = WeightsConfig()
    """Verifying new weights."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Benchmark scores during the run."""
    stop: StopConfig = StopConfig()
    """When to stop."""
    deadlines: DeadlineConfig = DeadlineConfig()
    """Longest waits."""
    observe: ObserveConfig = ObserveConfig()
    """Metrics and console."""

    @field_validator("run_dir")
    @classmethod
    def _without_secrets(cls, run_dir: str) -> str:
        if secret := secret_in(run_dir):
            raise ValueError(
                f"it contains {secret}, and would be written into the run and into messages; credentials come from the "
                "environment, AWS_ACCESS_KEY_ID for example, or from the machine"
            )
        return run_dir

    @model_validator(mode="before")
    @classmethod
    def _below_what_is_set(cls, data: Any) -> Any:
        return with_colocate(with_preset(with_corpus(data)))

    @model_validator(mode="after")
    def _rules_between_sections(self) -> FusionConfig:
        check_between_sections(self)
        return self

    @property
    def colocates(self) -> bool:
        """Whether harvest and training take turns on the same GPUs."""
        return self.placement == "colocate"

    @property
    def rows_per_round(self) -> int:
        """E * B_e; with `each_once` at most as many as the round has walks."""
        if self.enlightenment.rows == "each_once":
            return self.walks_per_round * self.enlightenment.epochs
        return self.enlightenment.steps * self.enlightenment.rows_per_step

    @property
    def rehearsal_rows_per_round(self) -> int:
        """The number of rows that gives `training.rehearsal.share` of a round's rows, if enough questions have sure
        answers."""
        share = self.training.rehearsal.share
        return round(self.rows_per_round * share / (1 - share))

    @property
    def most_rows_per_round(self) -> int:
        """The largest number of rows that a round trains on."""
        return self.rows_per_round + self.rehearsal_rows_per_round

    @property
    def walks_per_round(self) -> int:
        """M * B_m."""
        return self.meditation.steps * self.meditation.walks_per_step

    def at(self, round: int) -> FusionConfig:
        """The configuration with `training` as it is for a round."""
        return self.model_copy(update={"training": self.training.at(round)}) if self.training.stages else self

    def most_steps(self, num_rounds: int | None = None) -> int:
        """The largest number of optimizer steps that `num_rounds` rounds can have; default: all rounds that
        `stop.rounds` allows.

        Counts from round 0 even when a run is resumed later. One step too many only costs a read that returns "ended";
        one too few would lose rows.
        """
        rounds = self.stop.rounds if num_rounds is None else num_rounds
        return sum(num * self._most_steps_of(first) for first, num in self.training.spans(rounds))

    @property
    def first_rounds(self) -> list[int]:
        """The first round of each stage that begins within `stop.rounds`."""
        return [first for first, _ in self.training.spans(self.stop.rounds)]

    @property
    def most_steps_per_round(self) -> int:
        """Most optimizer steps that any round can have."""
        return max(self._most_steps_of(first) for first in self.first_rounds)

    def schedule_steps(self, round: int = 0) -> int:
        """Optimizer steps after which linear and cosine schedules are at their end, in the stage of a round."""
        return self.training.at(round).schedule.total_steps or self.most_steps_of_stage(round)

    def most_steps_of_stage(self, round: int) -> int:
        """Most optimizer steps that the stage of a round can have."""
        first, num = self.training.spans(max(self.stop.rounds, round + 1))[self.training.stage(round)]
        return num * self._most_steps_of(first)

    def _most_steps_of(self, round: int) -> int:
        one = self.at(round)
        return max(1, math.ceil(one.most_rows_per_round / one.training.global_batch_size))

    def model(self, name: str) -> VllmModel | OpenAIModel:
        """The source or target with this name."""
        return next(m for m in (*self.sources, self.target) if m.name == name)


def check_between_sections(config: FusionConfig) -> None:
    """Rules that need more than one section. Raises ConfigErrors with all violations."""
    errors = [*_errors_of_models(config), *_errors_of_judging(config)]
    errors += [*_errors_of_support(config), *_errors_of_stopping(config)]
    errors += [*errors_of_colocate(config), *errors_of_corpus(config), *_errors_of_reasoning(config)]
    if errors:
        raise ConfigErrors(errors)


def _errors_of_models(config: FusionConfig) -> list[ConfigError]:
    if not config.sources:
        return [ConfigError("sources", [], "a fusion needs at least one source", "Add a model under `sources:`.")]
    errors = []
    fields = {f"sources.{i}.name": source.name for i, source in enumerate(config.sources)}
    fields["target.name"] = config.target.name
    seen: set[str] = set()
    for field, name in fields.items():
        if name in seen:
            errors.append(ConfigError(field, name, "names of sources and target must differ", "Rename the model."))
        seen.add(name)
    if config.harvest.min_sources > len(config.sources):
        errors.append(
            ConfigError(
                "harvest.min_sources",
                config.harvest.min_sources,
                f"the number of sources is {len(config.sources)}",
                "Lower it, or add sources.",
            )
        )
    if config.target.trust_remote_code:
        rule = "training runs no code that comes with a model"
        remedy = "Leave it out, and use a target whose architecture transformers itself has; a source may have it."
        errors.append(ConfigError("target.trust_remote_code", True, rule, remedy))
    return errors


def _errors_of_judging(config: FusionConfig) -> list[ConfigError]:
    judge, num_sources = config.judge, len(config.sources)
    rule = remedy = ""
    if judge.needs_two and num_sources < 2:
        others = [kind for kind, section in JUDGES.items() if not section.needs_two]
        rule, remedy = judge.needs_two, f"Add a source, or use {in_words(others)}."
    elif judge.names_letter and num_sources >= MOST_ANSWERS:
        rule = f"a judge names the best of at most {MOST_ANSWERS} answers by a letter, and sources and target give "
        rule += f"{num_sources + 1}"
        others = [kind for kind, section in JUDGES.items() if not section.names_letter]
        remedy = f"Use at most {MOST_ANSWERS - 1} sources, or one of {in_words(others)}, which have no letters."
    elif judge.scores_answers and (rule := _cannot_score(config)):
        others = [kind for kind, section in JUDGES.items() if not section.scores_answers]
        remedy = f"Use one of {in_words(others)}, or host the model with kind: vllm."
    return [ConfigError("judge.kind", judge.kind, rule, remedy)] if rule else []


def _errors_of_support(config: FusionConfig) -> list[ConfigError]:
    support = config.sprout.min_support
    if support > len(config.sources):
        rule = f"the number of sources is {len(config.sources)}"
        return [ConfigError("sprout.min_support", support, rule, "Lower it, or add sources.")]
    if support and (rule := _cannot_score(config)):
        remedy = "Leave it at 0, or host the model with kind: vllm."
        return [ConfigError("sprout.min_support", support, rule, remedy)]
    return []


def _cannot_score(config: FusionConfig) -> str:
    """Why some sources cannot score a given text (return its log-probability); empty if all can."""
    remote = [source.name for source in config.sources if source.kind == "openai"]
    why = f"OpenAI's chat interface cannot score a given answer, and {', '.join(remote)} is behind it"
    return why if remote else ""


def _errors_of_reasoning(config: FusionConfig) -> list[ConfigError]:
    """Errors for a target that is asked to think although `training.reasoning` is off."""
    if config.training.reasoning != "off":
        return []
    errors = []
    for role in ROLES:
        sampling = config.target.sampling_of(role)
        asked = {f"sampling.{role}.reasoning_max_tokens": sampling.reasoning_max_tokens}
        asked |= {f"chat_template_kwargs.{switch}": sampling.chat_template_kwargs.get(switch) for switch in SWITCHES}
        for field, value in asked.items():
            if value:
                rule = "training.reasoning is off, so the target is asked not to think"
                remedy = "Remove it, or set training.reasoning to keep."
                errors.append(ConfigError(f"target.{field}", value, rule, remedy))
    return list({error.field: error for error in errors}.values())


def _errors_of_stopping(config: FusionConfig) -> list[ConfigError]:
    errors = []
    priced = any(
        source.kind == "openai" and source.price_per_million_prompt_tokens + source.price_per_million_output_tokens > 0
        for source in config.sources
    )
    if config.stop.cost is not None and not priced:
        remedy = "Give remote sources their prices, remove the rule, or use `stop.decoded_tokens`."
        errors.append(ConfigError("stop.cost", config.stop.cost, "no source has a price", remedy))
    if config.stop.no_gain_rounds is not None and config.harvest.heldout_fraction == 0:
        rule = "there is no held-out loss when harvest.heldout_fraction is 0"
        remedy = "Hold out a share, 0.1 for example."
        errors.append(ConfigError("stop.no_gain_rounds", config.stop.no_gain_rounds, rule, remedy))
    return errors
