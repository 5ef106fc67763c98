"""Keys of servers, read where they are used from where a reference points. Never logged, never part of a message."""

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
                "api_key", reference, f"the file cannot be read ({error.strerror})", "Make it."
            ) from error
    if not secret:
        remedy = "Set it where Ray's workers run, or use file:PATH on a path that they all see."
        raise ConfigError("api_key", reference, "the secret is empty or not set on this node", remedy)
    if not (secret.isascii() and secret.isprintable()):
        rule = "the secret has characters that no HTTP header can hold (a line break inside of it, or a quotation mark)"
        raise ConfigError("api_key", reference, rule, "Store the key alone, as the server's operator gave it.")
    return secret


def without_secret(text: str, secret: str) -> str:
    """What a server says, without the key, should it repeat it."""
    return text.replace(secret, "***") if len(secret) > 4 else text
