"""Finds secrets that are written in a configuration literally, instead of as a reference. Pure.

What is submitted to a cluster is stored there, shown in its dashboard and logged, so nothing secret may be in it.
Called before a job is submitted. A key is recognised by its setting's name or by the format of common issuers; a secret
with neither is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bohdi_ray.config.addresses import secret_in
from bohdi_ray.errors import ConfigError

REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")
_NAMED = re.compile(r"(^|_)(key|token|secret|passw(or)?d|passphrase|credentials?)$|^authorization$", re.IGNORECASE)
_FORMS = re.compile(
    r"\bsk-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bxox[abpr]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}|\bBearer\s+[A-Za-z0-9._~+/-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
REMEDY = (
    "Where the setting takes a reference, give env:NAME or file:PATH; else take it out and set it in the environment "
    "of the cluster's nodes."
)


def looks_secret(text: str) -> bool:
    """Whether a text contains something that looks like a key or token, or an address with a password."""
    return _FORMS.search(text) is not None or secret_in(text) is not None


def literal_secrets(data: Any, field: str = "") -> list[ConfigError]:
    """One error for each value in plain mappings and lists that is, or may be, a secret; none repeats it."""
    return [ConfigError(place, "(not shown)", rule, REMEDY) for place, rule in _found(data, field)]


def _found(data: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _found(value, f"{field}.{key}" if field else str(key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _found(value, f"{field}.{i}" if field else str(i))
    elif isinstance(data, str) and data and not REFERENCE.fullmatch(data):
        if _NAMED.search(field.rpartition(".")[2]):
            yield field, "is or may be a secret by its name, and the cluster would store and show it"
        elif looks_secret(data):
            yield field, "holds what looks like a key or password, and the cluster would store and show it"
