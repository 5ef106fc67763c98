"""What pydantic found, as `ConfigError`s a person can act on. Called by
`config/loading.py` and `studies/simulation/world_spec.py`."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bohdi_ray.config import EngineArgs, FusionConfig, OpenAIModel, Section, VllmModel
from bohdi_ray.config.addresses import without_secrets
from bohdi_ray.config.renamed import new_name
from bohdi_ray.errors import ConfigError

TAGS: dict[str, type[Section]] = {"vllm": VllmModel, "openai": OpenAIModel}
SECRET_KEY = re.compile(r"key|token$|secret|password", re.IGNORECASE)
SEE_DOCS = "docs/configuration.md lists every key."
Place = tuple[int | str, ...]


def config_errors(error: ValidationError, root: type[Section] = FusionConfig) -> list[ConfigError]:
    """One ConfigError for each thing pydantic found in a `root`, in its order."""
    return [_config_error(dict(found), root) for found in error.errors(include_url=False)]


def _config_error(found: dict[str, Any], root: type[Section]) -> ConfigError:
    place: Place = found["loc"]
    sections = _sections(place, root)
    field = ".".join(str(part) for i, part in enumerate(place) if not _is_tag(place, i)) or "CONFIG"
    value = shown(field, found["input"])
    kind = found["type"]
    if kind == "extra_forbidden":
        rule, remedy = _unknown_key(str(place[-1]), sections[-1])
        if new := new_name(field):
            rule, remedy = "the setting has another name now", f"Write {new}."
    elif kind == "missing":
        value, rule, remedy = None, "must be given", _meaning(sections[-1], place[-1])
    elif kind == "unknown_kind":
        field, value = f"{field}.kind", found["input"].get("kind")
        rule, remedy = found["msg"], "Use one of them, or leave `kind` out for vllm."
    else:
        rule = found["msg"].removeprefix("Value error, ")
        rule = rule[0].lower() + rule[1:]
        remedy = _meaning(sections[-1], place[-1] if place else "")
    return ConfigError(field, value, rule, remedy)


def _is_tag(place: Place, i: int) -> bool:
    return i == 2 and place[0] == "sources" and place[i] in TAGS


def _sections(place: Place, root: type[Section]) -> list[type[BaseModel] | None]:
    """The section that holds each key of the way, from `root` on; None where keys are free."""
    sections: list[type[BaseModel] | None] = [root]
    for i, key in enumerate(place[:-1]):
        here = sections[-1]
        if _is_tag(place, i):
            sections.append(TAGS[str(key)])
        elif isinstance(key, int):
            sections.append(here)
        elif here is not None and key in here.model_fields:
            sections.append(_section_of(here.model_fields[key]))
        else:
            sections.append(None)
    return sections


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [field.annotation, *get_args(field.annotation)]  # X, X | None or tuple[X, ...]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _unknown_key(key: str, section: type[BaseModel] | None) -> tuple[str, str]:
    known = list(section.model_fields) if section is not None else []
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.6)
    remedy = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
    if section is EngineArgs:
        remedy = f"{remedy} Put other vLLM arguments under engine.extra."
    return "there is no such key", remedy


def _meaning(section: type[BaseModel] | None, key: int | str) -> str:
    """What the field is, in the words of its docstring."""
    field = section.model_fields.get(str(key)) if section is not None else None
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
