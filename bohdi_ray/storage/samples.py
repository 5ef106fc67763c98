"""Samples as Parquet parts: the Arrow schema, conversion both ways, and rows by id.

A task of the driver's stores one part per harvest step; anyone may read. A sample's id contains its round and step, so
the part that holds it follows from the id and no index is kept. It never changes a part that was committed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import Candidate, Sample, Verdict
from bohdi_ray.storage.run_dir import SAMPLES, RunDir

CANDIDATE = pa.struct(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("weights_version", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("rejected", pa.string()),
    ]
)
SCORE = pa.struct([pa.field("model", pa.string(), nullable=False), pa.field("score", pa.float64(), nullable=False)])
LOGPROB = pa.struct([pa.field("model", pa.string(), nullable=False), pa.field("logprob", pa.float64(), nullable=False)])
VERDICT = pa.struct(
    [
        pa.field("policy", pa.string(), nullable=False),
        pa.field("judge", pa.string()),
        pa.field("scores", pa.list_(SCORE), nullable=False),
        pa.field("order_logprobs", pa.list_(pa.list_(LOGPROB)), nullable=False),
        pa.field("orders", pa.list_(pa.list_(pa.string())), nullable=False),
        pa.field("order_judges", pa.list_(pa.string()), nullable=False),
        pa.field("winner", pa.string(), nullable=False),
        pa.field("margin", pa.float64()),
    ]
)
SAMPLING = pa.struct(
    [
        pa.field("role_and_model", pa.string(), nullable=False),
        pa.field("temperature", pa.float64()),
        pa.field("top_p", pa.float64()),
        pa.field("max_tokens", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("path", pa.list_(pa.string()), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("leader", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("question_hash", pa.string(), nullable=False),
        pa.field("candidates", pa.list_(CANDIDATE), nullable=False),
        pa.field("verdict", VERDICT, nullable=False),
        pa.field("reward", pa.int8(), nullable=False),
        pa.field("heldout", pa.bool_(), nullable=False),
        pa.field("template_hash", pa.string(), nullable=False),
        pa.field("sampling", pa.list_(SAMPLING), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("started_at", pa.float64(), nullable=False),
        pa.field("finished_at", pa.float64(), nullable=False),
    ],
    metadata={"bohdi_ray.schema": "sample-1"},
)
_SAMPLE_ID = re.compile(r"r(\d+)-s(\d+)-t\d+")
_PART = re.compile(r"part-r(\d+)-s(\d+)\.parquet")


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """Samples as one Arrow table. Built column by column: a row-by-row conversion takes several times as long."""
    verdicts = [sample.verdict for sample in samples]
    settings = [list(sample.sampling.items()) for sample in samples]
    columns = {
        "path": _lists([sample.path for sample in samples], pa.string()),
        "candidates": _lists([sample.candidates for sample in samples], CANDIDATE, _attributes(CANDIDATE)),
        "verdict": _verdicts(verdicts),
        "sampling": _lists(settings, SAMPLING, _settings),
    }
    for field in SCHEMA:
        if field.name not in columns:
            columns[field.name] = pa.array([getattr(sample, field.name) for sample in samples], field.type)
    return pa.Table.from_arrays([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _verdicts(verdicts: list[Verdict]) -> pa.Array:
    columns = {
        "scores": _lists([v.scores.items() for v in verdicts], SCORE, _pairs(SCORE)),
        "order_logprobs": _list_of_lists(
            [[order.items() for order in v.order_logprobs] for v in verdicts], LOGPROB, _pairs(LOGPROB)
        ),
        "orders": _list_of_lists([v.orders for v in verdicts], pa.string()),
    }
    for field in VERDICT:
        if field.name not in columns:
            columns[field.name] = pa.array([getattr(v, field.name) for v in verdicts], field.type)
    return pa.StructArray.from_arrays([columns[field.name] for field in VERDICT], fields=list(VERDICT))


def _offsets(rows: Sequence) -> pa.Array:
    return pa.array(accumulate(map(len, rows), initial=0), pa.int32(), size=len(rows) + 1)


def _lists(rows: Sequence, kind: pa.DataType, build=None) -> pa.ListArray:
    """One list per row; `build` makes the flat array of all items, by default their plain values."""
    items = list(chain.from_iterable(rows))
    values = pa.array(items, kind) if build is None else build(items)
    return pa.ListArray.from_arrays(_offsets(rows), values, type=pa.list_(kind))


def _list_of_lists(rows: Sequence, kind: pa.DataType, build=None) -> pa.ListArray:
    inner = _lists(list(chain.from_iterable(rows)), kind, build)
    return pa.ListArray.from_arrays(_offsets(rows), inner, type=pa.list_(pa.list_(kind)))


def _attributes(kind: pa.StructType):
    def build(items: list) -> pa.StructArray:
        arrays = [pa.array([getattr(item, field.name) for item in items], field.type) for field in kind]
        return pa.StructArray.from_arrays(arrays, fields=list(kind))

    return build


def _pairs(kind: pa.StructType):
    def build(items: list) -> pa.StructArray:
        arrays = [pa.array([item[i] for item in items], field.type) for i, field in enumerate(kind)]
        return pa.StructArray.from_arrays(arrays, fields=list(kind))

    return build


def _settings(items: list) -> pa.StructArray:
    arrays = [pa.array([key for key, _ in items], pa.string())]
    arrays += [pa.array([values.get(field.name) for _, values in items], field.type) for field in list(SAMPLING)[1:]]
    return pa.StructArray.from_arrays(arrays, fields=list(SAMPLING))


def from_table(table: pa.Table) -> list[Sample]:
    """The samples of a table, equal to those it was made from."""
    return [_sample(row) for row in table.to_pylist()]


def _sample(row: dict) -> Sample:
    verdict = row["verdict"]
    row["path"] = tuple(row["path"])
    row["candidates"] = tuple(Candidate(**candidate) for candidate in row["candidates"])
    row["sampling"] = {
        entry.pop("role_and_model"): {name: value for name, value in entry.items() if value is not None}
        for entry in row["sampling"]
    }
    verdict["scores"] = {entry["model"]: entry["score"] for entry in verdict["scores"]}
    verdict["order_logprobs"] = tuple(
        {entry["model"]: entry["logprob"] for entry in order} for order in verdict["order_logprobs"]
    )
    verdict["order_judges"] = tuple(verdict["order_judges"])
    verdict["orders"] = tuple(tuple(order) for order in verdict["orders"])
    row["verdict"] = Verdict(**verdict)
    return Sample(**row)


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


class SampleStore:
    """The samples of one run. Picklable; a copy reads for itself.

    `max_parts` parts are remembered as (question, answer) by id, so that drawing rows again and again from recent steps
    reads nothing.
    """

    def __init__(self, run: RunDir, max_parts: int = 256):
        self.run = run
        self.max_parts = max_parts
        self._rows: OrderedDict[str, dict[str, tuple[str, str]]] = OrderedDict()
        self._heldout: dict[str, list[str]] = {}

    def __reduce__(self):
        return SampleStore, (self.run, self.max_parts)

    def write_part(self, round: int, step: int, table: pa.Table) -> str:
        """Store the samples of one step and return the part's name. Atomic, so that writing it again does no harm:
        only the journal's segment that names the part makes it count."""
        name = part_name(round, step)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=1)
        self.run.write_bytes(f"{SAMPLES}/{name}", sink.getvalue())
        self._rows.pop(name, None)
        self._heldout.pop(name, None)
        return name

    def parts(self) -> list[str]:
        """Names of all parts, in order of round and step."""
        matches = (_PART.fullmatch(name) for name in self.run.names(SAMPLES))
        return [m.group() for m in sorted(filter(None, matches), key=lambda m: (int(m.group(1)), int(m.group(2))))]

    def read_part(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One part, or some of its columns. Raises RunDirError if it is not there."""
        try:
            with self.run.filesystem.open_input_file(self.run.path(f"{SAMPLES}/{name}")) as source:
                return pq.read_table(source, columns=columns)
        except FileNotFoundError as error:
            raise RunDirError(f"{self.run.location}/{SAMPLES}/{name} is missing; restore it from a copy") from error

    def rows(self, sample_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """(question, answer) by id. Reads only the parts these ids are in. Raises RunDirError for an id without a
        sample."""
        found: dict[str, tuple[str, str]] = {}
        for sample_id in sorted(set(sample_ids)):  # sorted: ids of one part follow each other
            name = _part_of(sample_id)
            row = self._part_rows(name).get(sample_id)
            if row is None:
                raise RunDirError(f"{self.run.location}/{SAMPLES}/{name} has no sample {sample_id}")
            found[sample_id] = row
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

    def heldout_rows(self, through_round: int | None = None) -> dict[str, tuple[str, str]]:
        """(question, answer) of the held-out samples by id, in order; `through_round` as in `heldout_ids`."""
        return self.rows(self.heldout_ids(through_round))

    def iter_samples(self, parts: Iterable[str] | None = None) -> Iterator[Sample]:
        """The samples of these parts (default: of all there are, in order of round and step), in order of their place
        in the step, one part in memory at a time."""
        for name in self.parts() if parts is None else parts:
            yield from from_table(self.read_part(name))

    def _part_rows(self, name: str) -> dict[str, tuple[str, str]]:
        if name in self._rows:
            self._rows.move_to_end(name)
            return self._rows[name]
        rows = _questions_and_answers(self.read_part(name, ["sample_id", "question", "candidates", "verdict"]))
        self._rows[name] = rows
        if len(self._rows) > self.max_parts:
            self._rows.popitem(last=False)
        return rows


def _questions_and_answers(table: pa.Table) -> dict[str, tuple[str, str]]:
    candidates = table["candidates"].combine_chunks()
    models, texts = candidates.flatten().field("model").to_pylist(), candidates.flatten().field("text").to_pylist()
    offsets = candidates.offsets.to_pylist()
    winners = table["verdict"].combine_chunks().field("winner").to_pylist()
    rows = {}
    for i, sample_id in enumerate(table["sample_id"].to_pylist()):
        answers = dict(zip(models[offsets[i] : offsets[i + 1]], texts[offsets[i] : offsets[i + 1]], strict=True))
        rows[sample_id] = (table["question"][i].as_py(), answers[winners[i]])
    return rows
