"""Exported JSON Lines load block by block: no column's type depends on which rows come first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bohdi_ray.examples.export import SCHEMAS, ExportOptions, export, rows_of
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import to_table
from bohdi_ray.records import Sample
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record.journal import StepCommitted, encode

ALONE, COMPARED = {"alpha": 1.0}, {"alpha": 0.75, "beta": 0.0, "student": 0.25}


def exported(run: RunDir, samples: list[Sample], out: Path, format: str = "sft") -> Path:
    part = SampleStore(run).write_part(0, 0, to_table(samples))
    Segments(run).write_segment(0, encode([StepCommitted(0, part)]))
    export(run, out, ExportOptions(format))
    return out


def values(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in values(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in values(inner)] or [value]
    return [value]


def test_rows_that_nobody_was_compared_in_come_first_and_datasets_reads_all(
    run: RunDir, make_sample: Callable[..., Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    alone = [make_sample(i, scores=ALONE, question=f"Question {i}: {'why? ' * 20}") for i in range(400)]
    compared = [make_sample(400 + i, scores=COMPARED) for i in range(100)]
    out = exported(run, alone + compared, tmp_path / "out")
    loaded = datasets.load_dataset(
        "json", data_files=str(out / "train.jsonl"), cache_dir=str(tmp_path / "cache"), chunksize=8_000
    )["train"]
    parquet = pq.read_table(out / "train.parquet")
    assert loaded["margin"][:3] == [0.0, 0.0, 0.0] and loaded["margin"][-1] == 0.5
    assert loaded["num_eligible"][0] == 1 and loaded["num_eligible"][-1] == 3
    assert loaded.to_list() == parquet.to_pylist()


@pytest.mark.parametrize("format", ["sft", "preference"])
def test_no_exported_value_is_null_or_empty_and_each_column_has_one_type(
    run: RunDir, make_sample: Callable[..., Sample], tmp_path: Path, format: str
):
    samples = [make_sample(0, scores=ALONE), make_sample(1, scores=COMPARED)]
    out = exported(run, samples, tmp_path / "out", format)
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        assert line.keys() == set(SCHEMAS[format].names)
        assert all(value is not None and value != [] for value in values(line))
        assert all(isinstance(line[name], float) for name in ("margin",))
        assert all(isinstance(line[name], int) for name in ("round", "num_eligible"))


def test_a_margin_that_is_a_whole_number_is_written_as_a_float(make_sample: Callable[..., Sample]):
    sample = make_sample(0, scores={"alpha": -1, "student": -2})
    (row,) = rows_of(sample, "student", ExportOptions("preference"), Counter())
    assert json.dumps(row["margin"]) == "1.0"
