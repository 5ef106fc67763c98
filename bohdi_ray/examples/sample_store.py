"""Samples as Parquet parts: one per harvest step, and rows by id.

A task of the driver's stores a part; anyone may read. A sample's id contains its round and step, so the part that holds
it follows from the id and no index is kept. It never changes a part that was committed, and believes no part that it
cannot have written.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.sample_table import SCHEMA as SCHEMA
from bohdi_ray.examples.sample_table import from_table as from_table
from bohdi_ray.examples.sample_table import is_readable, questions_and_answers
from bohdi_ray.examples.sample_table import to_table as to_table
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
        raise RunDirError(f"{sample_id!r} is no sample id; ids look like r0003-s001-t00007")
    return part_name(int(match.group(1)), int(match.group(2)))


def _round_of(part: str) -> int:
    match = _PART.fullmatch(part)
    assert match is not None, f"{part} is no part"
    return int(match.group(1))


def _num_chars(rows: dict[str, tuple[str, ...]]) -> int:
    return sum(len(text) for texts in rows.values() for text in texts)


class SampleStore:
    """The samples of one run. Picklable; a copy reads for itself.

    Parts are remembered as (question, answer) by id, those that were used last, so that drawing rows again and again
    reads little: at most `max_parts` of them, and no more text than `MOST_CHARS`. With `with_reasoning` rows are
    (question, answer, reasoning of the answer).
    """

    def __init__(self, run: RunDir, max_parts: int = 4096, with_reasoning: bool = False):
        self.run = run
        self.max_parts = max_parts
        self.with_reasoning = with_reasoning
        self._rows: OrderedDict[str, dict[str, tuple[str, ...]]] = OrderedDict()
        self._num_chars = 0  # in `_rows`
        self._heldout: dict[str, list[str]] = {}

    def __reduce__(self):
        return SampleStore, (self.run, self.max_parts, self.with_reasoning)

    def write_part(self, round: int, step: int, table: pa.Table) -> str:
        """Store the samples of one step and return the part's name. Atomic, so that writing it again does no harm:
        only the journal's segment that names the part makes it count."""
        name = part_name(round, step)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=1, write_page_checksum=True)
        self.run.write_bytes(f"{SAMPLES}/{name}", sink.getvalue())
        self._forget(name)
        self._heldout.pop(name, None)
        return name

    def parts(self) -> list[str]:
        """Names of all parts, in order of round and step."""
        matches = (_PART.fullmatch(name) for name in self.run.names(SAMPLES))
        return [m.group() for m in sorted(filter(None, matches), key=lambda m: (int(m.group(1)), int(m.group(2))))]

    def read_part(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One part, or some of its columns. Raises RunDirError if it is not there, damaged, or no part of samples."""
        where = f"{self.run.location}/{SAMPLES}/{name}"
        if _PART.fullmatch(name) is None:  # names come from the journal: none may lead out of the folder
            raise RunDirError(
                f"{where!r} is no part of samples; the journal that names it is foreign: restore RUN/tree"
            )
        try:
            with self.run.filesystem.open_input_file(self.run.path(f"{SAMPLES}/{name}")) as source:
                table = pq.read_table(source, columns=columns, page_checksum_verification=True)
            table.validate(full=True)
        except FileNotFoundError as error:
            raise RunDirError(f"{where} is missing; restore it from a copy") from error
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as error:
            raise RunDirError(f"{where} cannot be read ({error!r:.300}); restore it from a copy") from error
        if not is_readable(table.schema, columns):
            raise RunDirError(
                f"{where} does not hold samples as this version writes them; restore it from a copy, or read it with "
                "the version that wrote it"
            )
        return table

    def rows(self, sample_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """(question, answer) by id. Reads only the parts these ids are in. Raises RunDirError for an id without a
        sample."""
        wanted: dict[str, list[str]] = {}  # ids by part
        for sample_id in sorted(set(sample_ids)):
            wanted.setdefault(_part_of(sample_id), []).append(sample_id)
        found: dict[str, tuple[str, ...]] = {}
        for name, rows in self._rows_of_parts(list(wanted)):
            for sample_id in wanted[name]:
                if sample_id not in rows:
                    raise RunDirError(f"{self.run.location}/{SAMPLES}/{name} has no sample {sample_id}")
                found[sample_id] = rows[sample_id]
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

    def heldout_rows(self, through_round: int | None = None) -> dict[str, tuple[str, ...]]:
        """(question, answer) of the held-out samples by id, in order; `through_round` as in `heldout_ids`."""
        return self.rows(self.heldout_ids(through_round))

    def iter_samples(self, parts: Iterable[str] | None = None) -> Iterator[Sample]:
        """The samples of these parts (default: of all there are, in order of round and step), in order of their place
        in the step, one part in memory at a time."""
        for name in self.parts() if parts is None else parts:
            for sample in from_table(self.read_part(name)):
                self._check(sample, name)
                yield sample

    def _rows_of_parts(self, names: list[str]) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
        """The rows of each part, in order. What is not remembered is read, several parts at a time: an object store
        takes long to answer."""
        unknown = [name for name in names if name not in self._rows]
        with ThreadPoolExecutor(max(1, min(READERS, len(unknown)))) as pool:
            reading = {name: pool.submit(self._read_rows, name) for name in unknown}
            for name in names:
                if name in reading:
                    self._remember(name, rows := reading.pop(name).result())
                elif name in self._rows:
                    self._rows.move_to_end(name)
                    rows = self._rows[name]
                else:  # forgotten meanwhile
                    rows = self._read_rows(name)
                yield name, rows

    def _remember(self, name: str, rows: dict[str, tuple[str, ...]]) -> None:
        self._forget(name)
        self._rows[name] = rows
        self._num_chars += _num_chars(rows)
        while len(self._rows) > self.max_parts or (self._num_chars > MOST_CHARS and len(self._rows) > 1):
            self._forget(next(iter(self._rows)))

    def _forget(self, name: str) -> None:
        self._num_chars -= _num_chars(self._rows.pop(name, {}))

    def _read_rows(self, name: str) -> dict[str, tuple[str, ...]]:
        table = self.read_part(name, ["sample_id", "question", "candidates", "verdict"])
        try:
            return questions_and_answers(table, self.with_reasoning)
        except KeyError as error:
            raise self._foreign(name, f"a verdict names {error}, which did not answer") from error

    def _check(self, sample: Sample, name: str) -> None:
        """Raises RunDirError for a sample that its part cannot hold."""
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
