"""Settings that were renamed: refused in files that a person writes, accepted in configurations that a run has
stored."""

from __future__ import annotations

from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.kinds.by_kind import KindTable, kinds_of

RENAMED = {"training.replay": "training.rehearsal", "judge.policy": "judge.kind", "bandit.policy": "bandit.kind"}


def new_name(place: str) -> str | None:
    """The current name of a setting, or None if it was never renamed. Also covers settings below a renamed section."""
    for old, new in RENAMED.items():
        if place == old or place.startswith(old + "."):
            return new + place.removeprefix(old)
    return None


def with_new_names(plain: Any) -> Any:
    """A configuration stored by an earlier version, with the current names."""
    if not isinstance(plain, dict):
        return plain
    for old, new in RENAMED.items():
        section, _, key = old.rpartition(".")
        if isinstance(held := plain.get(section), dict) and key in held:
            others = {name: value for name, value in held.items() if name != key}
            plain = {**plain, section: {new.rpartition(".")[2]: held[key], **others}}
    return {name: _of_its_kind(name, value) for name, value in plain.items()}


def _of_its_kind(name: str, held: Any) -> Any:
    """A section without the settings of other kinds, because earlier versions stored the settings of every kind."""
    field = FusionConfig.model_fields.get(name)
    kinds: KindTable | None = kinds_of(field) if field is not None else None
    if not isinstance(held, dict) or kinds is None or held.get("kind") not in kinds:
        return held
    foreign = {key for section in kinds.values() for key in section.model_fields} - {*kinds[held["kind"]].model_fields}
    return {key: value for key, value in held.items() if key not in foreign}
