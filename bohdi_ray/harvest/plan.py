"""`HarvestPlan`: everything fixed about harvesting, made once from the configuration and sent to every harvest task.

Frozen and picklable; holds no engine and no state. Made by the driver; `sprout.py`, `harvest.py`, `judge.py` read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi_ray.config import FusionConfig, JudgePolicy
from bohdi_ray.engines.prompts import TemplateSet, load_templates
from bohdi_ray.languages.length import LengthUnit
from bohdi_ray.records import ROLES, Role, SamplingSpec


def level_names(depth: int) -> tuple[str, ...]:
    """What a child at each level is called, from the main domains down to the leaves."""
    if depth == 1:
        return ("domain",)
    between = ("secondary domain",) if depth == 3 else tuple(f"level-{i} domain" for i in range(2, depth))
    return ("main domain", *between, "sub-domain")


@dataclass(frozen=True, slots=True)
class HarvestPlan:
    """The settings of sections 3 and 4 of the method for one run."""

    seed: int
    styles: tuple[str, ...]
    min_question_chars: int
    min_answer_chars: int
    length_unit: LengthUnit
    question_attempts: int
    heldout_fraction: float
    min_rehearsal_probability: float
    judge_policy: JudgePolicy
    judge_orders: int
    proposals_per_source: int
    vary_initials: bool
    min_support: int
    support_probability: float
    level_names: tuple[str, ...]  # one per level below the root
    sampling: dict[tuple[Role, str], tuple[float, float, int]]  # (role, model) -> temperature, top_p, max_tokens
    templates: TemplateSet
    template_hash: str
    # (role, model) -> reasoning_max_tokens, where it is configured; else the engine knows
    rooms: dict[tuple[Role, str], int] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: FusionConfig, templates: TemplateSet | None = None) -> HarvestPlan:
        """Loads and checks the templates unless given. Raises ConfigError(s)."""
        models = (*config.sources, config.target)
        templates = templates if templates is not None else load_templates(config.harvest.prompts)
        sampling: dict[tuple[Role, str], tuple[float, float, int]] = {}
        rooms: dict[tuple[Role, str], int] = {}
        for model in models:
            for role in ROLES:
                of = model.sampling_of(role)
                assert of.temperature is not None and of.top_p is not None and of.max_tokens is not None
                sampling[role, model.name] = (of.temperature, of.top_p, of.max_tokens)
                if of.reasoning_max_tokens is not None:
                    rooms[role, model.name] = of.reasoning_max_tokens
        return cls(
            seed=config.seed,
            styles=config.harvest.styles,
            min_question_chars=config.harvest.min_question_chars,
            min_answer_chars=config.harvest.min_answer_chars,
            length_unit=config.harvest.length_unit,
            question_attempts=config.harvest.question_attempts,
            heldout_fraction=config.harvest.heldout_fraction,
            min_rehearsal_probability=config.training.rehearsal.min_probability,
            judge_policy=config.judge.policy,
            judge_orders=config.judge.orders,
            proposals_per_source=config.sprout.proposals_per_source,
            vary_initials=config.sprout.vary_initials,
            min_support=config.sprout.min_support,
            support_probability=config.sprout.support_probability,
            level_names=config.tree.level_names or level_names(config.tree.depth),
            sampling=sampling,
            templates=templates,
            template_hash=templates.template_hash,
            rooms=rooms,
        )

    def spec(self, role: Role, model: str, seed: int) -> SamplingSpec:
        """Sampling of one request."""
        temperature, top_p, max_tokens = self.sampling[role, model]
        room = self.rooms.get((role, model), 0)
        return SamplingSpec(temperature, top_p, max_tokens, seed, reasoning_max_tokens=room)

    def sampling_record(self, models: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Sampling by "role/model", as `Sample` stores it. Template variables are in the run's configuration."""
        record = {}
        for (role, model), (temperature, top_p, max_tokens) in self.sampling.items():
            if model in models:
                values: dict[str, float] = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
                if (room := self.rooms.get((role, model))) is not None:
                    values["reasoning_max_tokens"] = room
                record[f"{role}/{model}"] = values
        return record
