"""Turns pydantic's errors into `ConfigError`s that a person can act on. Called by `config/loading.py`,
`evaluation/subjects.py` and `studies/simulation/world_spec.py`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bohdi_ray.config import EngineArgs, FusionConfig, Section
from bohdi_ray.config.addresses import without_secrets
from bohdi_ray.config.kinds.by_kind import KindTable, in_words, kinds_of
from bohdi_ray.config.renamed import new_name
from bohdi_ray.errors import ConfigError

SECRET_KEY = re.compile(r"key|token$|secret|password", re.IGNORECASE)
SEE_DOCS = "docs/configuration.md lists every key."
Place = tuple[int | str, ...]


def config_errors(error: ValidationError, root: type[Section] = FusionConfig) -> list[ConfigError]:
    """One ConfigError for each error that pydantic found in a `root`, in pydantic's order."""
    return [_config_error(dict(found), root) for found in error.errors(include_url=False)]


def _config_error(found: dict[str, Any], root: type[Section]) -> ConfigError:
    way = _way(found["loc"], root)
    field = ".".join(str(step.key) for step in way) or "CONFIG"
    last = way[-1] if way else Step("", root, None)
    value = shown(field, found["input"])
    kind = found["type"]
    if kind == "extra_forbidden":
        rule, remedy = _of_another_kind(field, last) or _unknown_key(str(last.key), last.section)
        if new := new_name(field):
            rule, remedy = "the setting was renamed", f"Write {new}."
    elif kind == "missing":
        value, rule, remedy = None, "must be given", _meaning(last)
    elif kind == "unknown_kind":
        field = f"{field}.kind"
        value = shown(field, found["input"].get("kind"))
        rule, remedy = found["msg"], f"Use one of them, or leave `kind` out for {found['ctx']['default']}."
    else:
        rule = found["msg"].removeprefix("Value error, ")
        rule = rule[0].lower() + rule[1:]
        remedy = found.get("ctx", {}).get("remedy") or _meaning(last)
    return ConfigError(field, value, rule, remedy)


@dataclass(frozen=True, slots=True)
class Step:
    """A key or index that a person wrote, the section that contains it, and the possible kinds of that section."""

    key: int | str
    section: type[BaseModel] | None  # None where keys are free
    kinds: KindTable | None


def _way(place: Place, root: type[BaseModel]) -> list[Step]:
    """The path from `root`, without the steps that pydantic adds to name the kind of a section."""
    way: list[Step] = []
    section: type[BaseModel] | None = root
    kinds: KindTable | None = None
    below: KindTable | None = None  # the kinds of the field whose key or index came before
    for key in place:
        if below is not None and key in below:
            section, kinds, below = below[str(key)], below, None
            continue
        way.append(Step(key, section, kinds))
        if not isinstance(key, int):
            field = section.model_fields.get(key) if section is not None else None
            section, kinds = (_section_of(field) if field is not None else None), None
            below = kinds_of(field) if field is not None else None
    return way


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [field.annotation, *get_args(field.annotation)]  # X, X | None or tuple[X, ...]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _of_another_kind(field: str, step: Step) -> tuple[str, str] | None:
    """The error for a setting that only other kinds of this section have."""
    owners = [kind for kind, section in (step.kinds or {}).items() if str(step.key) in section.model_fields]
    if not owners or step.kinds is None:
        return None
    here = next(kind for kind, section in step.kinds.items() if section is step.section)
    rule = f"`{here}` has no such setting; {in_words(owners)} {'has' if len(owners) == 1 else 'have'} it"
    section = field.rpartition(".")[0]
    return rule, f"Leave it out, or set {section}.kind to {'it' if len(owners) == 1 else 'one of them'}."


def _unknown_key(key: str, section: type[BaseModel] | None) -> tuple[str, str]:
    known = list(section.model_fields) if section is not None else []
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.6)
    remedy = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
    if section is EngineArgs:
        remedy = f"{remedy} Put other vLLM arguments under engine.extra."
    return "there is no such key", remedy


def _meaning(step: Step) -> str:
    """The meaning of the field, from its docstring."""
    field = step.section.model_fields.get(str(step.key)) if step.section is not None else None
    if field is None or not field.description:
        return SEE_DOCS
    return f"It is: {field.description.splitlines()[0]}"


def shown(field: str, value: object) -> object:
    """The value as a message may show it: never a secret, never a page of YAML."""
    if SECRET_KEY.search(field.rsplit(".", 1)[-1]):
        return "(not shown)"
    if isinstance(value, BaseModel | dict):
        # A rule on a whole section names its fields itself.
        return Brief("{...}")
    if isinstance(value, list | tuple) and len(repr(value)) > 80:
        return Brief(f"[{len(value)} items]")
    if isinstance(value, str):
        value = without_secrets(value)
        return value[:77] + "..." if len(value) > 80 else value
    return value


class Brief(str):
    """Text shown without quotes, in place of a value that is too long."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
