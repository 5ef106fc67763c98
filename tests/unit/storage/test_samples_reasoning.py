"""Reasoning survives storage, rows have it only when asked, and parts from before it was recorded stay readable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import CANDIDATE, SCHEMA, SCHEMA_1, to_table
from bohdi_ray.records import Sample
from bohdi_ray.run.run_dir import RunDir


def with_reasoning(sample: Sample) -> Sample:
    candidates = tuple(replace(c, reasoning=f"{c.model} thinks") for c in sample.candidates)
    sampling = sample.sampling | {"answer/alpha": {"temperature": 0.7, "reasoning_max_tokens": 512.0}}
    return replace(sample, candidates=candidates, question_reasoning="the leader thinks", sampling=sampling)


def as_before(table: pa.Table) -> pa.Table:
    """The table as the version wrote it that knew no reasoning."""
    return pa.Table.from_pylist(
        [
            {
                **line,
                "candidates": [{k: v for k, v in c.items() if k != "reasoning"} for c in line["candidates"]],
                "sampling": [{k: v for k, v in s.items() if k != "reasoning_max_tokens"} for s in line["sampling"]],
            }
            for line in table.drop_columns(["question_reasoning"]).to_pylist()
        ],
        schema=SCHEMA_1,
    )


def test_the_schema_from_before_is_the_one_that_runs_were_written_with():
    assert SCHEMA_1.metadata == {b"bohdi_ray.schema": b"sample-1"} and "question_reasoning" not in SCHEMA_1.names
    candidate = SCHEMA_1.field("candidates").type.value_type
    names = ["model", "weights_version", "text", "num_tokens", "finish_reason", "rejected"]
    assert [field.name for field in candidate] == names == [field.name for field in CANDIDATE][:-1]
    sampling = SCHEMA_1.field("sampling").type.value_type
    assert [field.name for field in sampling] == ["role_and_model", "temperature", "top_p", "max_tokens"]


def test_reasoning_survives_storage_and_rows_have_it_when_asked(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    sample = with_reasoning(make_sample())
    store.write_part(0, 0, to_table([sample]))
    assert list(store.iter_samples()) == [sample]
    plain = Completion(sample.sample_id, sample.question, sample.answer)
    assert store.completions([sample.sample_id]) == {sample.sample_id: plain}
    rows = SampleStore(run, with_reasoning=True).completions([sample.sample_id])
    assert rows == {sample.sample_id: replace(plain, reasoning="alpha thinks")}


def test_parts_from_before_are_read_beside_new_ones(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    old, new = make_sample(heldout=True), with_reasoning(make_sample(step=1))
    assert as_before(to_table([old])).schema.equals(SCHEMA_1) and not SCHEMA_1.equals(SCHEMA)
    store.write_part(0, 0, as_before(to_table([old])))
    store.write_part(0, 1, to_table([new]))
    assert list(store.iter_samples()) == [old, new]
    assert store.heldout_ids() == [old.sample_id]
    expected = {
        old.sample_id: Completion(old.sample_id, old.question, old.answer),
        new.sample_id: Completion(new.sample_id, new.question, new.answer, "alpha thinks"),
    }
    assert SampleStore(run, with_reasoning=True).completions(expected) == expected


def test_a_table_of_yet_another_shape_is_refused(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    store.write_part(0, 0, to_table([make_sample()]).drop_columns(["question_reasoning"]))
    with pytest.raises(RunDirError, match="as this version writes them"):
        list(store.iter_samples())
