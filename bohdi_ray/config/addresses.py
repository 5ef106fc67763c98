"""Locations of files as text: a path that every node has, or an address like `s3://bucket/run?region=eu-west-1`. Pure.

Settings of a filesystem are in the query, so names are joined and cut off in front of it. Credentials never are in
an address: they come from the environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|sig(nature)?$", re.IGNORECASE)
HIDDEN = "(hidden)"
CACHE_FORMAT = "quickstart-2"  # the folder of `cache:` names within the cache
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # of a model on a hub


def default_cache_dir() -> Path:
    """`$BOHDI_CACHE`, or ~/.cache/bohdi_ray."""
    return Path(os.path.expandvars(os.environ.get("BOHDI_CACHE") or "~/.cache/bohdi_ray")).expanduser()


def is_written_as_path(text: str) -> bool:
    """Whether a word that may be a path or a name (of a model on a hub, of a task) is a path."""
    return text.startswith(("/", "./", "../", "~"))


def is_address(location: str) -> bool:
    """Whether the text is an address rather than a path."""
    return "://" in location


def below(location: str, *names: str) -> str:
    """The location of an entry in a folder; the query of an address stays at the end."""
    if not is_address(location):
        return os.path.join(location, *names)
    address, mark, query = location.partition("?")
    return "/".join([address.rstrip("/"), *names]) + mark + query


def above(location: str) -> str:
    """The parent folder of a location."""
    if not is_address(location):
        return os.path.dirname(location)
    address, mark, query = location.partition("?")
    return address.rstrip("/").rpartition("/")[0] + mark + query


def secret_in(location: str) -> str | None:
    """What in an address is, or may be, a secret, as text; None if there is nothing."""
    if not is_address(location):
        return None
    try:
        parts = urlsplit(location)
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        user, password = parts.username, parts.password
    except ValueError:
        return None  # no address at all: whoever opens it says so
    # A password with a slash in it ends the part where one belongs, and "user:…" is left there.
    in_buckets_place = parts.scheme in ("s3", "gs", "gcs") and ":" in parts.netloc
    if password is not None or in_buckets_place or (user is not None and parts.scheme == "s3"):
        return "a user and a password"
    nested = any(secret_in(value) for _, value in parse_qsl(parts.query))
    named = next((name for name in names if _SECRET_NAME.search(name)), None)
    if named is not None:
        return f"the parameter {named}"
    return "a user and a password within a parameter" if nested else None


def without_secrets(text: str) -> str:
    """The text as messages may show it: users, passwords and parameters that are secret by their name are hidden."""
    if not is_address(text):
        return text
    text = re.sub(r"://[^/?#\s@]*:[^?#\s]*@", f"://{HIDDEN}@", text)
    text = re.sub(r"(s3://)[^/?#\s]*@", rf"\1{HIDDEN}@", text)
    return re.sub(r"([?&])([^=&\s]+)=([^&\s]*)", _hide_value, text)


def _hide_value(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return f"{mark}{name}={HIDDEN if _SECRET_NAME.search(name) else value}"
