"""Samples as Parquet parts: one per harvest step, and texts by id.

A task of the driver's stores a part; anyone may read. A sample's id contains its round and step, so the part that holds
it follows from the id and no index is kept. It never changes a committed part, and rejects a part that it cannot have
written.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.parts import read_part, write_part
from bohdi_ray.examples.sample_table import completions_of, from_table, is_readable
from bohdi_ray.records import Sample
from bohdi_ray.run.run_dir import SAMPLES, RunDir

_SAMPLE_ID = re.compile(r"r(\d{4,12})-s(\d{3,12})-t\d{5,12}", re.ASCII)
_PART = re.compile(r"part-r(\d{4,12})-s(\d{3,12})\.parquet", re.ASCII)


READERS = 8  # parts that are read at a time
MOST_CHARS = 64_000_000  # of questions and answers that are remembered


def part_name(round: int, step: int) -> str:
    """The part that holds the samples of one harvest step."""
    return f"part-r{round:04d}-s{step:03d}.parquet"


def _part_of(sample_id: str) -> str:
    match = _SAMPLE_ID.fullmatch(sample_id)
    if match is None:
        raise RunDirError(f"{sample_id!r} is not a sample id; ids look like r0003-s001-t00007")
    return part_name(int(match.group(1)), int(match.group(2)))


def _round_of(part: str) -> int:
    match = _PART.fullmatch(part)
    assert match is not None, f"{part} is no part"
    return int(match.group(1))


def _num_chars(row: Completion) -> int:
    return len(row.question) + len(row.answer) + len(row.reasoning)


class SampleStore:
    """The samples of one run. Picklable; a copy reads for itself.

    Questions with the winners' answers are remembered by id, those that were used last, so that drawing rows again and
    again reads little: at most `MOST_CHARS` of text. With `with_reasoning` they have the answers' reasoning.
    """

    def __init__(self, run: RunDir, with_reasoning: bool = False):
        self.run = run
        self.with_reasoning = with_reasoning
        self._rows: OrderedDict[str, Completion] = OrderedDict()
        self._num_chars = 0  # in `_rows`
        self._heldout: dict[str, list[str]] = {}

    def __reduce__(self):
        return SampleStore, (self.run, self.with_reasoning)

    def write_part(self, round: int, step: int, table: pa.Table) -> str:
        """Store the samples of one step and return the part's name. Atomic, so that writing it again does no harm:
        only the journal's segment that names the part makes it count."""
        name = part_name(round, step)
        write_part(self.run, f"{SAMPLES}/{name}", table)
        self._rows.clear()
        self._num_chars = 0
        self._heldout.pop(name, None)
        return name

    def parts(self) -> list[str]:
        """Names of all parts, in order of round and step."""
        matches = (_PART.fullmatch(name) for name in self.run.names(SAMPLES))
        return [m.group() for m in sorted(filter(None, matches), key=lambda m: (int(m.group(1)), int(m.group(2))))]

    def read_part(
        self, name: str, columns: list[str] | None = None, sample_ids: Collection[str] | None = None
    ) -> pa.Table:
        """One part, or some of its columns; with `sample_ids` only the row groups that may hold one of them. Raises
        RunDirError if it is not there, damaged, or no part of samples."""
        where = f"{self.run.location}/{SAMPLES}/{name}"
        if _PART.fullmatch(name) is None:  # names come from the journal: none may lead out of the folder
            raise RunDirError(
                f"{where!r} is not a sample part; the journal that names it belongs to another run: restore RUN/tree"
            )
        ids = None if sample_ids is None else ("sample_id", sample_ids)
        table = read_part(self.run, f"{SAMPLES}/{name}", columns, ids)
        if not is_readable(table.schema, columns):
            raise RunDirError(
                f"{where} does not hold samples as this version writes them; restore it from a copy, or read it with "
                "the version that wrote it"
            )
        return table

    def completions(self, sample_ids: Iterable[str]) -> dict[str, Completion]:
        """Questions with the winners' answers by id. Reads only row groups these ids are in, several parts at a time:
        an object store takes long to answer. Raises RunDirError for an id without a sample."""
        found: dict[str, Completion] = {}
        unknown: dict[str, set[str]] = {}  # ids by part
        for sample_id in sorted(set(sample_ids)):
            if (known := self._rows.get(sample_id)) is None:
                unknown.setdefault(_part_of(sample_id), set()).add(sample_id)
            else:
                self._rows.move_to_end(sample_id)
                found[sample_id] = known
        with ThreadPoolExecutor(max(1, min(READERS, len(unknown)))) as pool:
            for name, rows in zip(unknown, pool.map(self._read_rows, *zip(*unknown.items(), strict=True)), strict=True):
                for sample_id in unknown[name]:
                    if sample_id not in rows:
                        raise RunDirError(f"{self.run.location}/{SAMPLES}/{name} has no sample {sample_id}")
                    found[sample_id] = rows[sample_id]
                self._remember(rows)
        return found

    def heldout_ids(self, through_round: int | None = None) -> list[str]:
        """Ids of the held-out samples of rounds 0 to `through_round` (None: of all), in order.

        Each part is looked at once. Name the round while a later one is being harvested: its steps are not committed.
        """
        ids: list[str] = []
        for name in self.parts():
            if through_round is not None and _round_of(name) > through_round:
                break
            if name not in self._heldout:
                table = self.read_part(name, ["sample_id", "heldout"])
                self._heldout[name] = table.filter(table["heldout"])["sample_id"].to_pylist()
            ids += self._heldout[name]
        return ids

    def iter_samples(self, parts: Iterable[str] | None = None) -> Iterator[Sample]:
        """The samples of these parts (default: of all there are, in order of round and step), in order of their place
        in the step, one part in memory at a time."""
        for name in self.parts() if parts is None else parts:
            for sample in from_table(self.read_part(name)):
                self._check(sample, name)
                yield sample

    def _remember(self, rows: dict[str, Completion]) -> None:
        for sample_id, row in rows.items():
            if (known := self._rows.pop(sample_id, None)) is not None:
                self._num_chars -= _num_chars(known)
            self._num_chars += _num_chars(row)
            self._rows[sample_id] = row
        while self._num_chars > MOST_CHARS:
            self._num_chars -= _num_chars(self._rows.popitem(last=False)[1])

    def _read_rows(self, name: str, sample_ids: Collection[str]) -> dict[str, Completion]:
        table = self.read_part(name, ["sample_id", "question", "candidates", "verdict"], sample_ids)
        try:
            return completions_of(table, self.with_reasoning)
        except KeyError as error:
            raise self._foreign(name, f"a verdict names {error}, which did not answer") from error

    def _check(self, sample: Sample, name: str) -> None:
        """Raises RunDirError for a sample that cannot belong to its part."""
        match = _SAMPLE_ID.fullmatch(sample.sample_id)
        if match is None or (int(match[1]), int(match[2])) != (sample.round, sample.step) or _part_of(match[0]) != name:
            raise self._foreign(name, f"it holds {sample.sample_id!r:.80} of another step")
        eligible = {candidate.model for candidate in sample.candidates if candidate.rejected is None}
        if sample.verdict.winner not in eligible or not sample.verdict.scores.keys() <= eligible:
            raise self._foreign(name, f"the verdict on {sample.sample_id} names a model that gave no eligible answer")
        if not all(map(math.isfinite, (*sample.verdict.scores.values(), sample.verdict.margin or 0.0))):
            raise self._foreign(name, f"the scores of {sample.sample_id} are not finite")

    def _foreign(self, name: str, why: str) -> RunDirError:
        return RunDirError(f"{self.run.location}/{SAMPLES}/{name} is damaged or foreign: {why}; restore it from a copy")
