"""Reads the keys of servers where they are used, from the place that a reference names. Never logged, never part of a
message."""

from __future__ import annotations

import os
from pathlib import Path

from bohdi_ray.errors import ConfigError


def resolve_secret(reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`. Raises ConfigError, which never repeats the secret."""
    kind, _, where = reference.partition(":")
    secret = (os.environ.get(where) or "").strip() if kind == "env" else None
    if kind == "file":
        try:
            secret = Path(os.path.expandvars(where)).expanduser().read_text().strip()
        except OSError as error:
            raise ConfigError(
                "api_key", reference, f"the file cannot be read ({error.strerror})", "Create the file."
            ) from error
    if not secret:
        remedy = "Set it where Ray's workers run, or use file:PATH on a path that they all see."
        raise ConfigError("api_key", reference, "the secret is empty or not set on this node", remedy)
    if not (secret.isascii() and secret.isprintable()):
        rule = "the secret has characters that are not allowed in an HTTP header (a line break or a quotation mark)"
        raise ConfigError("api_key", reference, rule, "Store the key alone, as the server's operator gave it.")
    return secret


def without_secret(text: str, secret: str) -> str:
    """A server's message without the key, in case it repeats the key."""
    return text.replace(secret, "***") if len(secret) > 4 else text
