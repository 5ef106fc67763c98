"""Samples survive storage unchanged, and rows are found by id."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.sample_store import SampleStore, part_name
from bohdi_ray.examples.sample_table import SCHEMA, from_table, to_table
from bohdi_ray.records import Candidate, Sample, Verdict, ticket_id
from bohdi_ray.run.run_dir import RunDir

NAMES = st.sampled_from(["alpha", "beta-2", "student"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOAT = st.floats(allow_nan=False)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    models = draw(st.lists(NAMES, min_size=1, unique=True))
    candidates = tuple(
        Candidate(
            m, draw(st.integers(0, 9)), draw(TEXT), draw(st.integers(0, 4096)), draw(TEXT), draw(st.none() | TEXT)
        )
        for m in models
    )
    orders = draw(st.lists(st.permutations(models).map(tuple), max_size=3))
    verdict = Verdict(
        policy=draw(st.sampled_from(["leader", "others", "likelihood", "consensus"])),
        judge=draw(st.none() | NAMES),
        scores={model: draw(FLOAT) for model in draw(st.permutations(models))},
        order_logprobs=tuple({model: draw(FLOAT) for model in order} for order in orders),
        orders=tuple(orders),
        winner=draw(st.sampled_from(models)),
        margin=draw(st.none() | FLOAT),
    )
    round, step = draw(st.integers(0, 20)), draw(st.integers(0, 3))
    return Sample(
        sample_id=ticket_id(round, step, draw(st.integers(0, 99))),
        round=round,
        step=step,
        path=tuple(draw(st.lists(TEXT, min_size=1, max_size=3))),
        style=draw(TEXT),
        leader=draw(NAMES),
        question=draw(TEXT),
        question_hash=draw(TEXT),
        candidates=candidates,
        verdict=verdict,
        reward=draw(st.integers(0, 1)),
        heldout=draw(st.booleans()),
        template_hash=draw(TEXT),
        sampling=draw(
            st.dictionaries(TEXT, st.dictionaries(st.sampled_from(["temperature", "top_p", "max_tokens"]), FLOAT))
        ),
        seed=draw(st.integers(0, 2**63 - 1)),
        started_at=draw(FLOAT),
        finished_at=draw(FLOAT),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(samples(), max_size=4))
def test_a_table_gives_back_the_samples_it_was_made_from(made: list[Sample]):
    table = to_table(made)
    table.validate(full=True)
    assert table.schema.equals(SCHEMA)
    assert from_table(table) == made


def test_several_tables_join(make_sample: Callable[..., Sample]):
    made = [make_sample(i) for i in range(4)]
    joined = pa.concat_tables([to_table(made[:1]), to_table([]), to_table(made[1:])])
    assert from_table(joined) == made


def test_parts_are_named_by_round_and_step_and_read_in_that_order(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    made = {(r, s): [make_sample(i, r, s) for i in range(3)] for r, s in [(10, 0), (2, 1), (2, 0)]}
    names = [store.write_part(r, s, to_table(part)) for (r, s), part in made.items()]
    assert names == ["part-r0010-s000.parquet", "part-r0002-s001.parquet", "part-r0002-s000.parquet"]
    assert store.parts() == sorted(names)
    assert list(store.iter_samples()) == made[2, 0] + made[2, 1] + made[10, 0]


def test_rows_are_found_by_id_in_any_part_and_a_copy_of_the_store_finds_them_too(
    run: RunDir, make_sample: Callable[..., Sample]
):
    store = SampleStore(run)
    made = [make_sample(i, round, scores={"student": 0.6, "beta": 0.4}) for round in range(5) for i in range(4)]
    for round in range(5):
        store.write_part(round, 0, to_table([sample for sample in made if sample.round == round]))
    wanted = [made[17], made[0], made[9], made[17], made[3]]
    expected = {one.sample_id: Completion(one.sample_id, one.question, one.answer) for one in wanted}
    assert store.completions(sample.sample_id for sample in wanted) == expected
    assert pickle.loads(pickle.dumps(store)).completions(expected) == expected


def test_only_the_parts_of_the_wanted_ids_are_read_and_only_once(
    run: RunDir, make_sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
):
    store = SampleStore(run)
    for round in range(3):
        store.write_part(round, 0, to_table([make_sample(0, round)]))
    read, original = [], store.read_part
    monkeypatch.setattr(store, "read_part", lambda name, *others: read.append(name) or original(name, *others))
    for _ in range(2):
        store.completions([ticket_id(1, 0, 0)])
    assert read == [part_name(1, 0)]


def test_a_part_written_again_replaces_what_was_remembered(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    for heldout, question in ((False, "What was first?"), (True, "What came second?")):
        store.write_part(0, 0, to_table([make_sample(0, heldout=heldout, question=question)]))
        assert store.completions([ticket_id(0, 0, 0)])[ticket_id(0, 0, 0)].question == question
        assert store.heldout_ids() == ([ticket_id(0, 0, 0)] if heldout else [])


def test_unknown_ids_are_errors(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    store.write_part(0, 0, to_table([make_sample(0)]))
    with pytest.raises(RunDirError, match="has no sample"):
        store.completions([ticket_id(0, 0, 1)])
    with pytest.raises(RunDirError, match="is missing"):
        store.completions([ticket_id(0, 1, 0)])
    with pytest.raises(RunDirError, match="is not a sample id"):
        store.completions(["../../etc/passwd"])


def test_heldout_ids_come_in_order_from_all_parts(run: RunDir, make_sample: Callable[..., Sample]):
    store = SampleStore(run)
    for round in (1, 0):
        store.write_part(round, 0, to_table([make_sample(i, round, heldout=i == 2) for i in range(4)]))
        store.heldout_ids()
    assert store.heldout_ids() == [ticket_id(0, 0, 2), ticket_id(1, 0, 2)]
    assert store.heldout_ids(through_round=0) == [ticket_id(0, 0, 2)]
    store.write_part(2, 0, to_table([]))
    assert len(store.heldout_ids()) == 2
