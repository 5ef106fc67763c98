"""Samples as Arrow tables: the schema, and conversion in both directions. Pure; `sample_store.py` handles the files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import pyarrow as pa

from bohdi_ray.examples.kinds import Completion
from bohdi_ray.records import Candidate, Sample, Verdict

CANDIDATE = pa.struct(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("weights_version", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("rejected", pa.string()),
        pa.field("reasoning", pa.string(), nullable=False),
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
        pa.field("reasoning_max_tokens", pa.float64()),
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
        pa.field("question_reasoning", pa.string(), nullable=False),
    ],
    metadata={"bohdi_ray.schema": "sample-2"},
)


def _without(kind: pa.StructType, name: str) -> pa.StructType:
    return pa.struct([field for field in kind if field.name != name])


# Parts of runs that began before reasoning was recorded; `from_table` and the rows below read both.
SCHEMA_1 = pa.schema(
    [
        pa.field("candidates", pa.list_(_without(CANDIDATE, "reasoning")), nullable=False)
        if field.name == "candidates"
        else pa.field("sampling", pa.list_(_without(SAMPLING, "reasoning_max_tokens")), nullable=False)
        if field.name == "sampling"
        else field
        for field in SCHEMA
        if field.name != "question_reasoning"
    ],
    metadata={"bohdi_ray.schema": "sample-1"},
)


def is_readable(schema: pa.Schema, columns: Sequence[str] | None = None) -> bool:
    """Whether a table of this schema holds samples (or some of their columns) as this or an earlier version wrote
    them."""
    for known in (SCHEMA, SCHEMA_1):
        if columns is None or set(columns) <= set(known.names):
            wanted = known if columns is None else pa.schema([known.field(column) for column in columns])
            if schema.equals(wanted):
                return True
    return False


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """Samples as one Arrow table. Built column by column, because row-by-row conversion is several times slower."""
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


def completions_of(table: pa.Table, with_reasoning: bool = False) -> dict[str, Completion]:
    """Questions with the winning answers by id, with the answers' reasoning if asked for. Raises KeyError for a winner
    that did not answer."""
    candidates = table["candidates"].combine_chunks()
    flat = candidates.flatten()
    models, columns = flat.field("model").to_pylist(), [flat.field("text").to_pylist()]
    if with_reasoning:
        recorded = "reasoning" in {field.name for field in flat.type}
        columns.append(flat.field("reasoning").to_pylist() if recorded else [""] * len(flat))
    texts = list(zip(*columns, strict=True))
    offsets = candidates.offsets.to_pylist()
    winners = table["verdict"].combine_chunks().field("winner").to_pylist()
    rows = {}
    for i, sample_id in enumerate(table["sample_id"].to_pylist()):
        answers = dict(zip(models[offsets[i] : offsets[i + 1]], texts[offsets[i] : offsets[i + 1]], strict=True))
        rows[sample_id] = Completion(sample_id, table["question"][i].as_py(), *answers[winners[i]])
    return rows
