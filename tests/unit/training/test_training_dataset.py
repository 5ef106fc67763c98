"""Steps as Arrow tables, and a read that outlives restarts of its queue."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow")

from bohdi_ray.records import TrainingRow
from bohdi_ray.training.feed.dataset import step_of_table, table_of_step
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.feed.steps import GlobalStep

ROW = TrainingRow(3, 7, "r0003-s001-t00007", 'What is "\u2028"?', "line\nline\x00")


@pytest.mark.parametrize(
    "step",
    [
        GlobalStep(5, 3, (ROW, ROW), True, (ROW,), 12.5),
        GlobalStep(6, 3, (), True, (ROW,), 1.0),
        GlobalStep(7, 4, (), False, (), 1.0),
        Ended(),
    ],
)
def test_a_step_survives_its_table_and_is_never_an_empty_block(step):
    table = table_of_step(step)
    assert table.num_rows >= 1
    assert step_of_table(table) == step
