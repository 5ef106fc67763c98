"""Steps as Arrow tables: by ids as they leave the queue, as token rows as they reach a rank."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow")

from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow, Rejected
from bohdi_ray.training.feed.dataset import step_of_table, steps_of, table_of_step
from bohdi_ray.training.feed.encoded_step import EncodedStep, lines_of_end, lines_of_step
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.feed.steps import GlobalStep

ID = "r0003-s001-t00007"
STEPS = [
    GlobalStep(5, 3, (ID, ID), True, (ID, "b"), (ID,), 12.5),
    GlobalStep(6, 3, (), True, (ID,), (), 1.0),
    GlobalStep(7, 4, (), False, (), (), 1.0),
]
PAIR = EncodedExample("pair", (EncodedRow((1, 2, 3), 1), EncodedRow((1, 2), 1)), b"\x00\xff")
ONE = EncodedExample(ID, (EncodedRow((7, 8, 2**31 - 1), 2),))


@pytest.mark.parametrize("step", [*STEPS, Ended()])
def test_a_step_survives_its_table_and_is_never_an_empty_block(step):
    table = table_of_step(step)
    assert table.num_rows >= 1
    assert step_of_table(table) == step


def encoded_steps() -> tuple[list, list[EncodedStep]]:
    rows = [(PAIR, Rejected("long", "prompt_too_long")), (), ()]
    blocks = [lines_of_step(step, one, [ONE] * (step.step == 5)) for step, one in zip(STEPS, rows, strict=True)]
    expected = [
        EncodedStep(s.step, s.round, s.last_of_round, s.put_at, one, s.heldout, (ONE,) * (s.step == 5))
        for s, one in zip(STEPS, rows, strict=True)
    ]
    return blocks, expected


def test_token_rows_survive_their_blocks_also_where_a_step_comes_in_several():
    blocks, expected = encoded_steps()
    pieces = [block.slice(start, 2) for block in blocks for start in range(0, block.num_rows, 2)]
    assert len(pieces) > len(blocks)
    for stream in (blocks, pieces):
        assert list(steps_of([*stream, lines_of_end()])) == [*expected, Ended(), Ended()]
    assert expected[0].usable == [PAIR] and [one.reason for one in expected[0].rejected] == ["prompt_too_long"]


def test_a_step_that_is_missing_is_noticed_where_it_should_have_come():
    blocks, _ = encoded_steps()
    with pytest.raises(AssertionError, match="step 7 arrived where 6 was expected"):
        list(steps_of([blocks[0], blocks[2]]))
