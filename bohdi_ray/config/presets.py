"""Presets: one word for many settings. Data, and the merging of it below what a user set. Called by `fusion_config.py`.

A preset only fills in keys that are absent, before anything is validated, so a user's value wins wherever it comes from
(file or override), and every error is about a user's value. A resolved configuration holds all keys and so loads to
itself, its `preset` included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

# What the paper (arXiv 2506.15721) and its published run give, by setting. Free mappings, such as DeepSpeed's, are one
# value: a user's replaces the whole. docs/fidelity.md says what no setting can give.
PAPER_SETTINGS: dict[str, Any] = {
    "tree.depth": 3,
    "sprout.proposals_per_source": 5,
    "sprout.max_failures": 10,
    "sprout.reuse_ballots": False,
    "sprout.vary_initials": False,
    "sprout.min_support": 0,
    "bandit.policy": "dynabranches",
    "bandit.window": 20,
    "bandit.introspection": True,
    "bandit.threshold": 0.2,
    "meditation.steps": 3,
    "meditation.walks_per_step": 30,
    "enlightenment.steps": 3,
    "enlightenment.rows_per_step": 60,
    "harvest.min_question_chars": 30,
    "harvest.min_answer_chars": 30,
    "harvest.length_unit": "characters",
    "harvest.question_attempts": 1,
    "harvest.heldout_fraction": 0.0,
    "harvest.max_staleness": 0,
    "harvest.step_lag": 0,
    "judge.policy": "leader",
    "judge.orders": 1,
    "training.learning_rate": 5e-6,
    "training.global_batch_size": 128,
    "training.micro_batch_size": 1,
    "training.max_length": 8192,
    "training.gradient_clipping": 1.0,
    "training.dtype": "bfloat16",
    "training.reset_optimizer": True,
    "training.replay.share": 0.0,
    "training.deepspeed": {"zero_optimization": {"stage": 2}},
    "stop.rounds": 19,
}
PAPER_SOURCE: dict[str, Any] = {
    "temperature": 0.7,
    "sampling.sprout.top_p": 0.95,
    "sampling.question.top_p": 0.95,
    "sampling.answer.top_p": 0.8,
    "sampling.answer.max_tokens": 4096,
}
PAPER_TARGET: dict[str, Any] = {
    "temperature": 0.6,
    "sampling.answer.top_p": 0.8,
    "sampling.answer.max_tokens": 4096,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """Dotted keys and values: of the configuration, of every source, of the target."""

    settings: Mapping[str, Any]
    source: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    # Settings that mean something only with the preset's own value of another: one who chooses another gets that one's.
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Temperature of sources whose model's own name, after the last slash, holds this text in any case.
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def settings_for(self, data: object) -> dict[str, Any]:
        """The settings that suit what was chosen in `data`, a mapping or a configuration."""
        foreign: set[str] = set()
        for choice, keys in self.parameters.items():
            if _at(data, choice, self.settings[choice]) != self.settings[choice]:
                foreign.update(keys)
        return {key: value for key, value in self.settings.items() if key not in foreign}

    def source_values(self, model: object) -> dict[str, Any]:
        """The values for a source whose `model` (a folder, hub id or served name) this is."""
        name = model.rstrip("/").rpartition("/")[2].lower() if isinstance(model, str) else ""
        special = [value for text, value in self.temperatures.items() if text in name]
        return {**self.source, **({"temperature": special[0]} if special else {})}


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        PAPER_SETTINGS,
        PAPER_SOURCE,
        PAPER_TARGET,
        parameters={"bandit.policy": ("bandit.window", "bandit.threshold")},
        temperatures={"mistral-small": 0.15},
    ),
}


def with_preset(data: Any) -> Any:
    """`data`, plain or already of models, with its preset's values where it has none; never changed in place.

    What has the wrong shape is left to validation, and so is a preset that does not exist.
    """
    name = data.get("preset") if isinstance(data, Mapping) else None
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return data
    filled = with_values(data, preset.settings_for(data))
    sources = filled.get("sources")
    if isinstance(sources, list | tuple):
        filled["sources"] = [with_values(source, preset.source_values(_at(source, "model"))) for source in sources]
    if "target" in filled:
        filled["target"] = with_values(filled["target"], preset.target)
    return filled


def changed_settings(config: BaseModel) -> list[str]:
    """Dotted keys in which a resolved configuration differs from its preset, in the preset's order; models by name."""
    preset = PRESETS.get(getattr(config, "preset", None) or "")
    if preset is None:
        return []
    parts: list[tuple[str, Any, Mapping[str, Any]]] = [("", config, preset.settings_for(config))]
    parts += [(f"sources.{s.name}.", s, preset.source_values(s.model)) for s in getattr(config, "sources", ())]
    parts.append(("target.", getattr(config, "target", None), preset.target))
    return [prefix + key for prefix, part, values in parts for key in _differing(part, values)]


def _differing(part: Any, values: Mapping[str, Any]) -> Iterator[str]:
    return (key for key, value in values.items() if _at(part, key) != value)


def _at(part: object, key: str, default: object = None) -> Any:
    """The value at a dotted key of nested mappings and sections; `default` where there is none."""
    for name in key.split("."):
        part = part.get(name, default) if isinstance(part, Mapping) else getattr(part, name, default)
    return part


def with_values(part: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a mapping or section in which every dotted key that is absent has its value."""
    plain = _plain(part)
    if plain is None:
        return part
    for key, value in values.items():
        name, _, rest = key.partition(".")
        if rest:
            plain[name] = with_values(plain.get(name, {}), {rest: value})
        else:
            plain.setdefault(name, value)
    return plain


def _plain(part: Any) -> dict[str, Any] | None:
    """What was set in it, as a new mapping; None for what is neither a mapping nor a section."""
    if isinstance(part, BaseModel):
        return {name: getattr(part, name) for name in part.model_fields_set}
    return dict(part) if isinstance(part, Mapping) else None
