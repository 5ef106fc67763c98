"""ExampleStore: reads examples by id, wherever they are stored. Used by a rank's encoder.

An id says where its example is:

    r0003-s001-t00007               a sample: its question with the winner's answer
    replay-r0003-t00007             a rehearsal row
    preference-r0003-s001-t00007    RUN/examples/preference/part-r0003-s001.parquet; the other kinds alike
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import KINDS, Example, from_table, is_readable, to_table
from bohdi_ray.examples.parts import read_part, write_part
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.examples.sample_store import SampleStore, part_name
from bohdi_ray.run.run_dir import EXAMPLES, RunDir

_OWN_PART = re.compile(rf"({'|'.join(KINDS)})-r(\d{{4,12}})-s(\d{{3,12}})-t\d{{5,12}}", re.ASCII)


def example_id(kind: type[Example], round: int, step: int, index: int) -> str:
    """The id of an example in a part of its own."""
    return f"{kind.__name__.lower()}-r{round:04d}-s{step:03d}-t{index:05d}"


class ExampleStore:
    """The examples of one run. Picklable; a copy reads for itself."""

    def __init__(self, run: RunDir, with_reasoning: bool = False):
        self.run = run
        self._samples = SampleStore(run, with_reasoning)
        self._rehearsals = RehearsalStore(run)

    def __reduce__(self):
        return ExampleStore, (self.run, self._samples.with_reasoning)

    def write(self, round: int, step: int, examples: Sequence[Example]) -> str:
        """Stores examples of one kind, at least one, whose ids name this round and step; returns the part's name."""
        name = f"{EXAMPLES}/{type(examples[0]).__name__.lower()}/{part_name(round, step)}"
        assert {_part_of(example.example_id) for example in examples} == {name}, "ids name the part they are in"
        write_part(self.run, name, to_table(sorted(examples, key=lambda example: example.example_id)))
        return name

    def read(self, ids: Sequence[str]) -> list[Example]:
        """The examples of these ids, in their order; an id may come several times. Raises RunDirError for an id without
        an example, and for a part that is missing, damaged or of another version."""
        own, rehearsed, samples = list[str](), list[str](), list[str]()
        for one in sorted(set(ids)):
            (own if _OWN_PART.fullmatch(one) else rehearsed if one.startswith("replay-") else samples).append(one)
        found = self._own(own) | self._rehearsals.completions(rehearsed) | self._samples.completions(samples)
        return [found[one] for one in ids]

    def _own(self, ids: list[str]) -> dict[str, Example]:
        found: dict[str, Example] = {}
        parts: dict[str, list[str]] = {}
        for one in ids:
            parts.setdefault(_part_of(one), []).append(one)
        for name, wanted in parts.items():
            kind = KINDS[name.split("/")[1]]
            table = read_part(self.run, name, ids=("example_id", wanted))
            if not is_readable(table.schema, kind):
                raise RunDirError(
                    f"{self.run.shown(name)} does not hold examples as this version writes them; restore it from a "
                    "copy, or read it with the version that wrote it"
                )
            found |= {example.example_id: example for example in from_table(table, kind)}
            if missing := [one for one in wanted if one not in found]:
                raise RunDirError(f"{self.run.shown(name)} has no example {missing[0]}")
        return found


def _part_of(one: str) -> str:
    match = _OWN_PART.fullmatch(one)
    assert match is not None, f"{one!r} is no id of an example in a part of its own"
    return f"{EXAMPLES}/{match[1]}/{part_name(int(match[2]), int(match[3]))}"
