"""The names of a run's actors and tasks, in Ray's dashboard, `ray list actors` and log lines. Pure.

All of it is ASCII, whatever the run's folder is called: names become labels of metrics, which Ray, and vLLM in it, take
in no other way. And what a task is called does not depend on round and step: Ray keeps series of metrics for each name.
Actors carry Ray names, which Ray wants unique within a namespace: every driver takes a namespace of its own, so that
runs in folders of the same name never meet. Nobody looks an actor of a run up by its name to use it; handles do that.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field

from bohdi_ray.config.addresses import is_address

PREFIX = "bohdi"
MOST_CHARS = 64  # of a run's name
ENCODED = "xn--"


def ascii_label(text: str) -> str:
    """The text itself if it is ASCII, else its Punycode behind `xn--`, as for names on the internet: different texts
    get different labels, and standard tools decode the label.

    >>> ascii_label("r\u00e4ume"), ascii_label("rooms")
    ('xn--rume-loa', 'rooms')
    """
    if text.isascii() and not text.startswith(ENCODED):
        return text
    return ENCODED + text.encode("punycode").decode("ascii")


def run_name(location: str) -> str:
    """The last part of a run directory's path or address, with unusual characters replaced by `_`, as ASCII. A name
    that is too long ends with a digest of the whole name."""
    path = location.partition("?")[0] if is_address(location) else location
    last = path.rstrip("/").rpartition("/")[2]
    name = ascii_label(re.sub(r"[^\w.+-]", "_", last))
    if len(name) > MOST_CHARS:
        digest = hashlib.blake2b(last.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        name = f"{name[: MOST_CHARS - len(digest) - 1]}-{digest}"
    return name or "run"


@dataclass(frozen=True, slots=True)
class RunNames:
    """The names of one driver's actors and tasks."""

    run: str
    namespace: str = field(default_factory=lambda: f"{PREFIX}-{uuid.uuid4().hex}")

    @classmethod
    def of(cls, run_dir: str) -> RunNames:
        return cls(run_name(run_dir))

    def engine(self, model: str, replica_id: str, is_target: bool) -> str:
        """`bohdi/<run>/source/<model>/<number>`, `bohdi/<run>/target/<number>`; replica ids end with their number."""
        number = replica_id.rpartition("-")[2]
        return self.named("target", number) if is_target else self.named("source", model, number)

    def named(self, *parts: str) -> str:
        return "/".join((PREFIX, self.run, *parts))

    def actor(self, name: str) -> dict[str, str]:
        """Ray options for an actor with that name."""
        return {"name": name, "namespace": self.namespace}
