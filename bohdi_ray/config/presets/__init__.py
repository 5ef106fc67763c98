"""Presets: one name for many settings. Data, and the code that merges it under what a user set. Called by
`fusion_config.py`; one file per published method.

A preset only fills in keys that are absent, before anything is validated, so a user's value wins wherever it comes from
(file or override), and every error is about a user's value. A resolved configuration holds all keys and so loads to
itself, its `preset` included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from bohdi_ray.config.presets.paper import PAPER
from bohdi_ray.config.presets.preset import Preset, value_at

PRESETS: dict[str, Preset] = {"paper": PAPER}


def with_preset(data: Any) -> Any:
    """`data` (plain, or already models) with its preset's values for keys that it does not have; never changed in
    place.

    Values of the wrong shape, and a preset that does not exist, are left to validation.
    """
    name = data.get("preset") if isinstance(data, Mapping) else None
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return data
    filled = with_values(data, preset.settings_for(data))
    sources = filled.get("sources")
    if isinstance(sources, list | tuple):
        filled["sources"] = [with_values(source, preset.source_values(value_at(source, "model"))) for source in sources]
    if "target" in filled:
        filled["target"] = with_values(filled["target"], preset.target)
    return filled


def changed_settings(config: BaseModel) -> list[str]:
    """Dotted keys whose values in a resolved configuration differ from its preset, in the preset's order; models by
    name."""
    preset = PRESETS.get(getattr(config, "preset", None) or "")
    if preset is None:
        return []
    parts: list[tuple[str, Any, Mapping[str, Any]]] = [("", config, preset.settings_for(config))]
    parts += [(f"sources.{s.name}.", s, preset.source_values(s.model)) for s in getattr(config, "sources", ())]
    parts.append(("target.", getattr(config, "target", None), preset.target))
    return [prefix + key for prefix, part, values in parts for key in _differing(part, values)]


def _differing(part: Any, values: Mapping[str, Any]) -> Iterator[str]:
    return (key for key, value in values.items() if value_at(part, key) != value)


def with_values(part: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a mapping or section in which every missing dotted key is filled in."""
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
    """The values that were set, including the kind, as a new mapping; None for anything but a mapping or a section."""
    if isinstance(part, BaseModel):
        return {name: value for name, value in part if name in part.model_fields_set or name == "kind"}
    return dict(part) if isinstance(part, Mapping) else None
