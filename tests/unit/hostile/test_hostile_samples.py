"""Whatever lies in RUN/samples: the samples as they were written, or RunDirError. An export is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_input import examples, says_what_to_do, within
from hypothesis import given
from hypothesis import strategies as st
from scripted_fusion import make_config

from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.examples.export import ExportOptions, export
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import SCHEMA, from_table, to_table
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record import journal

PART = "part-r0000-s000.parquet"


@pytest.fixture(scope="module")
def samples(make_sample):
    return [make_sample(index, heldout=index == 3) for index in range(5)]


@pytest.fixture
def run(tmp_path, samples) -> RunDir:
    """A run of one step, committed, with five samples."""
    made = RunDir.create(tmp_path / "run", make_config(), {})
    SampleStore(made).write_part(0, 0, to_table(samples))
    Segments(made).write_segment(0, journal.encode([journal.StepCommitted(0, PART)]))
    return made


def write(run: RunDir, data: bytes) -> None:
    Path(run.path(f"samples/{PART}")).write_bytes(data)


def readings(run: RunDir, samples) -> list[tuple[object, object]]:
    """Each way to read the part, and what it should give: None where it was refused."""
    ways = (
        (lambda store: list(store.iter_samples()), samples),
        (
            lambda store: store.completions([s.sample_id for s in samples]),
            {s.sample_id: Completion(s.sample_id, s.question, s.answer) for s in samples},
        ),
        (lambda store: store.heldout_ids(), [s.sample_id for s in samples if s.heldout]),
    )
    found = []
    for way, right in ways:
        with within(10):
            try:
                found.append((way(SampleStore(run)), right))
            except RunDirError as error:
                assert says_what_to_do(error) and PART in str(error)
                found.append((None, right))
    return found


@examples(110)
@given(data=st.data())
def test_a_damaged_part_is_refused_or_read_rightly(run, samples, data):
    """Flips are noticed in values too, by the pages' checksums: a changed answer would be trained on."""
    good = run.read_bytes(f"samples/{PART}")
    try:
        at = data.draw(st.integers(0, len(good) - 1))
        kind = data.draw(st.sampled_from(["flip", "flip", "flip", "cut", "insert", "zero", "swap"]))
        write(
            run,
            {
                "flip": good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :],
                "cut": good[:at],
                "insert": good[:at] + data.draw(st.binary(min_size=1, max_size=8)) + good[at:],
                "zero": good[:at] + bytes(min(64, len(good) - at)) + good[at + 64 :],
                "swap": good[at:] + good[:at],
            }[kind],
        )
        for found, right in readings(run, samples):
            assert found is None or found == right
    finally:
        write(run, good)


def foreign_tables(samples) -> dict[str, pa.Table | bytes]:
    """Files that are no part of samples of this run, though each is a whole file of its kind."""
    good = to_table(samples)
    rows = good.to_pylist()
    loose = pa.schema([pa.field(field.name, field.type) for field in SCHEMA])  # everything may be null

    def with_row(**changes: object) -> pa.Table:
        return pa.Table.from_pylist([{**rows[0], **changes}, *rows[1:]], schema=SCHEMA)

    verdict = rows[0]["verdict"]
    return {
        "nothing": b"",
        "text": b"sample_id,question\n",
        "magic": b"PAR1PAR1",
        "another table": pa.table({"a": [1, 2, 3]}),
        "a column less": good.drop_columns(["question"]),
        "a column more": good.append_column("later", pa.array([1] * len(rows))),
        "columns in another order": good.select(list(reversed(good.column_names))),
        "nulls": pa.Table.from_pylist([{**row, "question": None} for row in rows], schema=loose),
        "another type": good.set_column(1, "round", pa.array(["0"] * len(rows))),
        "not UTF-8": pa.Table.from_arrays(
            [
                pa.array([b"\xff\xfe"] * len(rows)).view(pa.string()) if f.name == "question" else good[f.name]
                for f in SCHEMA
            ],
            schema=SCHEMA,
        ),
        "a winner that did not answer": with_row(verdict={**verdict, "winner": "nobody"}),
        "a score that is no number": with_row(verdict={**verdict, "margin": float("nan")}),
        "a sample of another step": with_row(sample_id="r0007-s001-t00000"),
        "an id that is none": with_row(sample_id="../../etc/passwd"),
    }


KINDS = [
    "nothing",
    "text",
    "magic",
    "another table",
    "a column less",
    "a column more",
    "columns in another order",
    "nulls",
    "another type",
    "not UTF-8",
    "a winner that did not answer",
    "a score that is no number",
    "a sample of another step",
    "an id that is none",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["sft", "preference"])
def test_a_foreign_file_in_the_place_of_a_part_is_refused(run, samples, kind, shape, tmp_path):
    tables = foreign_tables(samples)
    assert list(tables) == KINDS
    content = tables[kind]
    if isinstance(content, bytes):
        write(run, content)
    else:
        pq.write_table(content, run.path(f"samples/{PART}"))
    (found, _), *_ = readings(run, samples)
    assert found is None
    out = tmp_path / "out"
    with pytest.raises(RunDirError):
        export(run, out, ExportOptions(format=shape))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"], "no half of an export is left"


def test_an_empty_part_has_no_samples(run):
    pq.write_table(to_table([]), run.path(f"samples/{PART}"))
    store = SampleStore(run)
    assert list(store.iter_samples()) == [] and store.heldout_ids() == []
    with pytest.raises(RunDirError, match="has no sample"):
        store.completions(["r0000-s000-t00000"])


@pytest.mark.parametrize(
    "part",
    ["../../secret.parquet", "/etc/passwd", "part-r0000-s000.parquet/../../x", "part-r1-s1.parquet", "\0", "a" * 999],
)
def test_a_part_that_a_foreign_journal_names_leads_nowhere_else(run, part, tmp_path):
    Segments(run).write_segment(1, journal.encode([journal.StepCommitted(1, part)]))
    pq.write_table(to_table([]), tmp_path / "secret.parquet")
    with pytest.raises(RunDirError, match="is not a sample part"):
        export(run, tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "sample_id", ["", "../r0000-s000-t00000", "r0000-s000-t00000/..", "r٠٠٠٠-s000-t00000", "r0-s0-t0"]
)
def test_an_id_that_is_none_is_refused(run, sample_id):
    with pytest.raises(RunDirError, match="not a sample id"):
        SampleStore(run).completions([sample_id])


def test_an_export_without_the_journals_damaged_end_says_so(run, samples, tmp_path):
    SampleStore(run).write_part(0, 1, to_table([]))
    Segments(run).write_segment(1, journal.encode([journal.StepCommitted(1, "part-r0000-s001.parquet")]))
    whole = Path(run.path("tree/segment-00000001"))
    whole.write_bytes(whole.read_bytes()[:-4])
    done = export(run, tmp_path / "out", ExportOptions())
    assert done.damaged is not None and "segment-00000001 is damaged" in done.damaged
    assert sum(done.rows.values()) == len(samples)


def test_an_export_that_cannot_be_written_is_refused(run, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError) as refused:
            export(run, out, ExportOptions())
        assert says_what_to_do(refused.value)


def test_an_export_that_fails_on_the_way_leaves_nothing(run, tmp_path, monkeypatch):
    def full(self, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bohdi_ray.examples.export._Writer.write", full)
    with pytest.raises(ConfigError, match="No space left"):
        export(run, tmp_path / "out", ExportOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_export_into_an_empty_folder_that_is_there_already(run, samples, tmp_path):
    (tmp_path / "out").mkdir()
    export(run, tmp_path / "out", ExportOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == sum(not sample.heldout for sample in samples)


@examples(30)
@given(text=st.text(max_size=40), index=st.integers(0, 4))
def test_any_text_comes_back_as_it_was(make_sample, text, index):
    sample = make_sample(index, question=text, style=text, path=(text, text))
    assert from_table(to_table([sample])) == [sample]
