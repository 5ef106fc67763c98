"""The format of a preset: values for settings that a user leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Dotted keys and values: of the configuration, of every source, of the target."""

    settings: Mapping[str, Any]
    source: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    # Temperature of sources whose model's own name, after the last slash, holds this text in any case.
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def settings_for(self, data: object) -> dict[str, Any]:
        """The preset's settings that apply to `data`, a mapping or a configuration: if `data` chooses another kind of a
        section than the preset, that section keeps its own kind's defaults."""
        kinds = {key.removesuffix("kind"): kind for key, kind in self.settings.items() if key.endswith(".kind")}
        others = tuple(part for part, kind in kinds.items() if value_at(data, f"{part}kind", kind) != kind)
        return {
            key: value for key, value in self.settings.items() if key.endswith(".kind") or not key.startswith(others)
        }

    def source_values(self, model: object) -> dict[str, Any]:
        """The values for a source with this `model` (a folder, hub id or served name)."""
        name = model.rstrip("/").rpartition("/")[2].lower() if isinstance(model, str) else ""
        special = [value for text, value in self.temperatures.items() if text in name]
        return {**self.source, **({"temperature": special[0]} if special else {})}


def value_at(part: object, key: str, default: object = None) -> Any:
    """The value at a dotted key of nested mappings and sections; `default` where there is none."""
    for name in key.split("."):
        part = part.get(name, default) if isinstance(part, Mapping) else getattr(part, name, default)
    return part
