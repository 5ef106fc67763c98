"""Sections that have several kinds, distinguished by `kind`. One table (kind -> section) gives both the union in the
configuration (`ByKind`) and, in another package, the table of implementations (`modules_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

S = TypeVar("S", bound=BaseModel)
KindTable = Mapping[str, type[BaseModel]]


def by_kind(*sections: type[S]) -> dict[str, type[S]]:
    """The table of these sections. A mapping without `kind` belongs to the first."""
    return {get_args(section.model_fields["kind"].annotation)[0]: section for section in sections}


@dataclass(frozen=True, slots=True, eq=False)
class ByKind:
    """In the `Annotated` of a field: its value is one of these sections, a pydantic union discriminated by `kind`."""

    sections: KindTable

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.tagged_union_schema(
            {kind: handler.generate_schema(section) for kind, section in self.sections.items()},
            self._kind_of,
            custom_error_type="unknown_kind",
            custom_error_message=f"the kinds are {in_words(self.sections)}",
            custom_error_context={"default": self._default},
        )

    @property
    def _default(self) -> str:
        return next(iter(self.sections))

    def _kind_of(self, value: Any) -> str | None:
        if isinstance(value, BaseModel):
            kind = getattr(value, "kind", None)
        else:
            kind = value.get("kind", self._default) if isinstance(value, Mapping) else self._default
        return kind if isinstance(kind, str) else None


def kinds_of(field: FieldInfo) -> KindTable | None:
    """The kinds of section that a field, or an item of it, may have; None for any other field."""
    of_items = (mark for item in get_args(field.annotation) for mark in get_args(item)[1:])
    return next((mark.sections for mark in (*field.metadata, *of_items) if isinstance(mark, ByKind)), None)


def own_settings(section: BaseModel, base: type[BaseModel]) -> dict[str, Any]:
    """The settings of this kind that not every kind derived from `base` has."""
    return {name: value for name, value in section if name not in base.model_fields}


def in_words(kinds: KindTable | list[str]) -> str:
    """The names as `a`, `b` and `c`."""
    *others, last = (f"`{kind}`" for kind in kinds)
    return f"{', '.join(others)} and {last}" if others else last


def modules_of(kinds: KindTable, package: str, attribute: str) -> dict[str, Any]:
    """For each kind, the `attribute` of the module of that name in `package`. Raises ImportError."""
    return {kind: _attribute_of(kind, package, attribute) for kind in kinds}


def _attribute_of(kind: str, package: str, attribute: str) -> Any:
    module = f"{package}.{kind}"
    try:
        loaded: ModuleType = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(f"the configuration has a kind {kind}, and there is no module {module} for it") from None
    if not hasattr(loaded, attribute):
        raise ImportError(f"{module} must have `{attribute}`, which is what the kind {kind} of the configuration does")
    return getattr(loaded, attribute)
