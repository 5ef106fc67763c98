"""Examples by id: what was written comes back, whichever kind; only row groups that hold a wanted id are read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples import parts
from bohdi_ray.examples.kinds import KINDS, SCHEMAS, Completion, Distribution, Preference, Text, from_table, to_table
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import to_table as samples_to_table
from bohdi_ray.examples.store import ExampleStore, example_id
from bohdi_ray.records import RehearsalRow, ticket_id
from bohdi_ray.run.run_dir import RunDir

EXAMPLES = {
    Completion: Completion("", "Why?", "Because.\n\x00", "Let me see."),
    Preference: Preference("", "Why?", "Because.", ""),
    Distribution: Distribution("", "", "Light bends.", 2, b"\x01\x00\x00\x00\xff" * 4, b"\x00" * 8),
    Text: Text("", "量子力学"),
}


def named(kind, index: int, round: int = 0, step: int = 0):
    """The kind's example with an id of its own."""
    fields = {name: getattr(EXAMPLES[kind], name) for name in SCHEMAS[kind].names}
    return kind(**fields | {"example_id": example_id(kind, round, step, index)})


@pytest.fixture
def store(tmp_path) -> ExampleStore:
    return ExampleStore(RunDir(str(tmp_path / "run")))


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_kind_comes_back_as_it_was_written(store, kind):
    rows = [named(kind, i) for i in range(5)]
    assert store.write(0, 0, rows[::-1]) == f"examples/{kind.__name__.lower()}/part-r0000-s000.parquet"
    wanted = [rows[3], rows[0], rows[3]]
    assert store.read([row.example_id for row in wanted]) == wanted
    assert pickle.loads(pickle.dumps(store)).read([rows[1].example_id]) == [rows[1]]


@given(st.text(), st.text(), st.text())
def test_any_text_survives_its_table(question, chosen, rejected):
    row = Preference("preference-r0000-s000-t00000", question, chosen, rejected)
    assert from_table(to_table([row]), Preference) == [row]


def test_ids_of_samples_rehearsals_and_own_parts_are_read_together(store, make_sample):
    sample = make_sample(1)
    SampleStore(store.run).write_part(0, 0, samples_to_table([make_sample(0), sample]))
    rehearsed = RehearsalRow("replay-r0002-t00003", ("A",), "ada", "What?", "That.", 0.99, 7, None)
    RehearsalStore(store.run).write(2, [rehearsed])
    text = named(Text, 0)
    store.write(0, 0, [text])
    found = store.read([text.example_id, "replay-r0002-t00003", sample.sample_id, text.example_id])
    assert found == [
        text,
        Completion("replay-r0002-t00003", "What?", "That."),
        Completion(sample.sample_id, sample.question, sample.answer),
        text,
    ]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (example_id(Text, 0, 0, 9), "has no example text-r0000-s000-t00009"),
        (example_id(Text, 5, 0, 0), "part-r0005-s000.parquet is missing"),
        (ticket_id(3, 0, 0), "is missing"),
        ("replay-r0003-t00000", "cannot be read|is missing"),
        ("../../etc/passwd", "is not a sample id"),
        ("text-r0000-s000-t00000/../x", "is not a sample id"),
    ],
)
def test_an_id_without_an_example_is_an_error(store, one, message):
    store.write(0, 0, [named(Text, 0)])
    with pytest.raises(RunDirError, match=message):
        store.read([one])


def test_a_part_of_another_version_or_with_other_fields_is_refused(store):
    row = named(Text, 0)
    path = Path(store.run.path(store.write(0, 0, [row])))
    table = pq.read_table(path)
    pq.write_table(table.append_column("more", pa.array([1])), path)
    assert store.read([row.example_id]) == [row], "further columns of this version are tolerated"
    for other in (
        table.replace_schema_metadata({b"bohdi_ray.examples": b"2"}),
        table.rename_columns(["example_id", "t"]),
    ):
        pq.write_table(other, path)
        with pytest.raises(RunDirError, match="does not hold examples as this version writes them"):
            store.read([row.example_id])


def test_row_groups_are_small_and_only_those_with_a_wanted_id_are_read(store, monkeypatch):
    monkeypatch.setattr(parts, "GROUP_BYTES", 50_000)
    rows = [Text(example_id(Text, 0, 0, i), f"{i} " * (200_000 if i == 7 else 1_000)) for i in range(40)]
    file = pq.ParquetFile(store.run.path(store.write(0, 0, rows)))
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert [row for group in groups for row in range(group.num_rows)] and sum(g.num_rows for g in groups) == 40
    assert all(g.total_byte_size <= 60_000 or g.num_rows == 1 for g in groups), "a long row has a group of its own"
    read = []
    original = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, groups, **more: read.append(groups) or original(self, groups, **more),
    )
    assert store.read([rows[3].example_id]) == [rows[3]]
    assert store.read([rows[39].example_id, rows[38].example_id]) == [rows[39], rows[38]]
    assert [len(groups) for groups in read] == [1, 1]


def test_samples_are_read_a_row_group_at_a_time_too(store, make_sample, monkeypatch):
    monkeypatch.setattr(parts, "GROUP_BYTES", 20_000)
    samples = [make_sample(i, question=f"{i}? " * 2000) for i in range(12)]
    SampleStore(store.run).write_part(0, 0, samples_to_table(samples))
    tables = []
    original = SampleStore.read_part
    monkeypatch.setattr(
        SampleStore, "read_part", lambda self, *given: tables.append(original(self, *given)) or tables[-1]
    )
    (found,) = store.read([samples[5].sample_id])
    assert (found.question, found.answer) == (samples[5].question, samples[5].answer)
    assert tables[0].num_rows < 4
    assert [s.sample_id for s in SampleStore(store.run).iter_samples()] == [s.sample_id for s in samples]
