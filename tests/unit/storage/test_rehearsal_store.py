"""A round's rehearsal on disk: read as it was written, or refused."""

from pathlib import Path

import pytest

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.rehearsal_store import RehearsalCounts, RehearsalStore, figures_of
from bohdi_ray.records import RehearsalRow
from bohdi_ray.run.run_dir import RunDir


def row(number, question="Why?", rejected=None, round=2):
    return RehearsalRow(f"replay-r{round:04d}-t{number:05d}", ("A", "B"), "ada", question, "Because.", 0.5, 7, rejected)


@pytest.fixture
def store(tmp_path):
    return RehearsalStore(RunDir(str(tmp_path / "run")))


def test_all_that_was_asked_is_read_again(store):
    rows = [row(0), row(1, rejected="unsure")]
    assert not store.has(2)
    store.write(2, rows)
    assert store.has(2) and not store.has(1) and store.read(2) == rows


def test_figures_are_counts_by_reason_and_tokens_of_all_questions():
    rows = [row(0), row(1, rejected="unsure"), row(2, rejected="unsure")]
    assert figures_of(rows) == RehearsalCounts({"kept": 1, "unsure": 2}, 21)


def questions(store, round, most):
    """Those of the rows that a round trains on, in order."""
    ids = store.kept_ids(round, most)
    rows = store.completions(ids)
    assert list(rows) == sorted(ids)
    return [rows[one].question for one in ids]


def test_kept_are_the_first_sure_ones_each_question_once(store):
    store.write(2, [row(0, "a", "unsure"), row(1, "b"), row(2, "b"), row(3, "c"), row(4, "d")])
    assert questions(store, 2, 2) == ["b", "c"]
    assert questions(store, 2, 9) == ["b", "c", "d"]
    assert store.kept_ids(7, 0) == []  # without rehearsal nothing is read


def test_what_a_round_lacks_the_rounds_before_it_give_the_last_first(store):
    for round, rows in {0: ["z"], 2: ["a", "b?"], 3: ["a", "c"], 4: ["d", "c", "e?"]}.items():
        store.write(round, [row(i, q[0], "unsure" if "?" in q else None, round) for i, q in enumerate(rows)])
    assert questions(store, 4, 1) == ["d"]
    assert questions(store, 4, 9) == ["d", "c", "a", "z"]  # round 1 was in a stage without rehearsal
    assert questions(store, 3, 9) == ["a", "c", "z"]  # whatever came later


def test_an_id_without_a_row_is_an_error(store):
    store.write(2, [row(0)])
    for one, message in (("replay-r0002-t00001", "has no row"), ("r0002-s000-t00001", "not the id of a rehearsal row")):
        with pytest.raises(RunDirError, match=message):
            store.completions([one])


def test_a_rounds_file_is_read_once_however_many_rounds_train_on_its_rows(store, monkeypatch):
    for round in range(4):
        store.write(round, [row(0, f"of {round}", round=round)])
    reads, read = [], RehearsalStore.read
    monkeypatch.setattr(RehearsalStore, "read", lambda self, round: (reads.append(round), read(self, round))[1])
    assert [len(store.kept_ids(round, 9)) for round in range(4)] == [1, 2, 3, 4]
    assert [store.figures(round).num_tokens for round in range(4)] == [7, 7, 7, 7]
    assert reads == [0, 1, 2, 3]
    assert store.figures(4) == RehearsalCounts({}, 0)


def test_a_file_that_is_missing_or_damaged_is_refused(store):
    with pytest.raises(RunDirError, match="round-0002"):
        store.read(2)
    store.write(2, [row(0)])
    path = store.run.path("replay/round-0002.parquet")
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 3] ^= 255
    Path(path).write_bytes(data)
    with pytest.raises(RunDirError, match="restore it from a copy"):
        store.read(2)
