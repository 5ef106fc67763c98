"""Reads a run's small JSON files, and accepts them only if they hold what this version writes."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from bohdi_ray.errors import RunDirError

T = TypeVar("T")


def decoded(data: bytes, kind: type[T], where: str, remedy: str) -> T:
    """The JSON in `data` as a `kind`: a type that msgspec knows. Raises RunDirError, which names the file as
    `where`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunDirError(f"{where} is damaged or not written by bohdi_ray ({error}); {remedy}") from error


def facts(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    """The JSON object in `data`, which may contain NaN and infinities as Python writes them. Raises RunDirError as
    `decoded` does."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunDirError(f"{where} is damaged or not written by bohdi_ray ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise RunDirError(f"{where} is damaged or not written by bohdi_ray (it is not an object); {remedy}")
    return found
