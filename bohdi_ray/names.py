"""What the actors and tasks of a run are called, in Ray's dashboard, `ray list actors` and log lines. Pure.

Actors carry Ray names, which Ray wants unique within a namespace: every driver takes a namespace of its own, so that
runs in folders of the same name never meet. Nobody looks an actor of a run up by its name to use it; handles do that.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from bohdi_ray.addresses import is_address

PREFIX = "bohdi"
MOST_CHARS = 64  # of a run's name


def run_name(location: str) -> str:
    """The last part of a run directory's path or address, with what is odd in a name replaced by `_`."""
    path = location.partition("?")[0] if is_address(location) else location
    last = path.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]", "_", last)[:MOST_CHARS] or "run"


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
        """Options of an actor of that name."""
        return {"name": name, "namespace": self.namespace}

    def task(self, what: str, round: int, steps: Iterable[int] = ()) -> str:
        """`bohdi/<run>/harvest r3 s1`; several steps as `s1+2`."""
        numbers = "+".join(str(step) for step in sorted(set(steps)))
        return self.named(f"{what} r{round}" + (f" s{numbers}" if numbers else ""))
