"""`HarvestPlan`: what every harvest task gets once: the run's configuration and its loaded prompt templates.

Frozen and picklable; holds no engine and no state. Made by the driver. Settings are read directly
(`plan.config.harvest.min_answer_chars`); the methods return values computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.prompts import TemplateSet, load_templates
from bohdi_ray.randomness import derived_seed
from bohdi_ray.records import ROLES, GenerationRequest, Role, SamplingSpec, Ticket


def level_names(depth: int) -> tuple[str, ...]:
    """The names of the levels below the root, from the main domains down to the leaves."""
    if depth == 1:
        return ("domain",)
    between = ("secondary domain",) if depth == 3 else tuple(f"level-{i} domain" for i in range(2, depth))
    return ("main domain", *between, "sub-domain")


@dataclass(frozen=True, slots=True)
class HarvestPlan:
    """The configuration and the prompts of one run."""

    config: FusionConfig
    templates: TemplateSet
    # A task asks for the same few again and again.
    _specs: dict[tuple[Role, str], SamplingSpec] = field(default_factory=dict, repr=False, compare=False)
    _records: dict[tuple[str, ...], dict[str, dict[str, float]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def from_config(cls, config: FusionConfig) -> HarvestPlan:
        """Loads and checks the templates. Raises ConfigError(s)."""
        return cls(config, load_templates(config.harvest.prompts))

    @property
    def level_names(self) -> tuple[str, ...]:
        """The names of the levels below the root, as used in prompts."""
        return self.config.tree.level_names or level_names(self.config.tree.depth)

    def spec(self, role: Role, model: str, seed: int) -> SamplingSpec:
        """Sampling of one request."""
        if (role, model) not in self._specs:
            of = self.config.model(model).sampling_of(role)
            assert of.temperature is not None and of.top_p is not None and of.max_tokens is not None
            # Where no room for reasoning is configured, the model's engine knows it.
            room = of.reasoning_max_tokens or 0
            self._specs[role, model] = SamplingSpec(of.temperature, of.top_p, of.max_tokens, 0, room)
        return replace(self._specs[role, model], seed=seed)

    def request(self, ticket: Ticket, role: Role, model: str, prompt: str, attempt: int = 0) -> GenerationRequest:
        """The request of a ticket to a model, with its own seed and id."""
        seed = derived_seed(self.config.seed, ticket.round, ticket.step, ticket.index, role, model, attempt)
        request_id = f"{ticket.ticket_id}/{role}/{model}/{attempt}"
        return GenerationRequest(request_id, role, prompt, self.spec(role, model, seed))

    def sampling_record(self, models: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Sampling by "role/model", as `Sample` stores it. Template variables are in the run's configuration."""
        if models not in self._records:
            fields = ("temperature", "top_p", "max_tokens", "reasoning_max_tokens")
            known = [model for model in (*self.config.sources, self.config.target) if model.name in models]
            self._records[models] = {
                f"{role}/{model.name}": model.sampling_of(role).model_dump(include=set(fields), exclude_none=True)
                for model in known
                for role in ROLES
            }
        return self._records[models]
