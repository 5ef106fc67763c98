"""The results of the checks before a start: `bohdi plan` shows them, `fuse` refuses to start on errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.placement.memory.estimate import ModelSize
from bohdi_ray.training.weights.attention import Attention


@dataclass(slots=True)
class Findings:
    """All results: errors, what could not be checked, and the sizes of models whose files are here.

    `sizes` are those of what engines load, of the target what is published.
    """

    problems: list[ConfigError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, ModelSize | None] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)  # nothing wrong, and yet hardly what is wanted
    corpus: list[str] = field(default_factory=list)  # what was counted in it
    hub: list[str] = field(default_factory=list)  # which commit of a hub model was looked at
    attention: Attention | None = None  # what the target trains with; None: its files are not here, or it is refused
    unchecked: list[str] = field(default_factory=list)  # models that are hub ids, by name, that nobody looked at

    @property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        """config.json of each model whose files were read, from a folder or a hub, by model name."""
        return {name: size.config for name, size in self.sizes.items() if size is not None}

    def raise_if_wrong(self) -> None:
        """Raises ConfigErrors with all errors."""
        if self.problems:
            raise ConfigErrors(self.problems)

    def refuse(self, field_name: str, value: object, rule: str, remedy: str) -> None:
        """Adds an error, unless it was added already."""
        error = ConfigError(field_name, value, rule, remedy)
        if str(error) not in map(str, self.problems):
            self.problems.append(error)
