"""The layout of micro-batches is one in which the model keeps rows apart, tried in the shapes that will be run."""

from __future__ import annotations

import pytest

from bohdi_ray.config import TrainingConfig
from bohdi_ray.training.batches.batches import Batch
from bohdi_ray.training.batches.packing import BatchLayout, choose_layout, layouts


class ScriptedModel:
    """Loss of a row: the sum of its ids, plus a little of every id that the attention lets it see."""

    def __init__(self, sees):
        self.sees = sees  # of (batch, line, first, last) the positions that reach into the row at first..last
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, batch: Batch) -> list[float]:
        self.shapes.append((len(batch.input_ids), len(batch.input_ids[0])))
        losses = []
        for line, segments in enumerate(batch.segments):
            for row in dict.fromkeys(segment for segment in segments if segment >= 0):
                own = [i for i, segment in enumerate(segments) if segment == row]
                seen = self.sees(batch, line, own[0])
                losses.append(sum(batch.input_ids[line][i] for i in own) + 0.01 * sum(seen))
        return losses


def nothing(batch, line, first):
    return []


def all_before(batch, line, first):
    return batch.input_ids[line][:first]


def all_before_unless_one_line(batch, line, first):
    """transformers' FlashAttention: positions are read as packs only where a batch has one line."""
    return [] if len(batch.input_ids) == 1 else all_before(batch, line, first)


def other_lines(batch, line, first):
    return [sum(ids) for number, ids in enumerate(batch.input_ids) if number != line]


def chosen(sees, **training) -> BatchLayout:
    return choose_layout(TrainingConfig(max_length=64, **training), ScriptedModel(sees), bool)


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_packs_where_every_line_keeps_its_rows_apart(lines):
    assert chosen(nothing, micro_batch_size=lines) == BatchLayout(lines, True, 64)


@pytest.mark.parametrize("lines", [2, 5])
def test_one_long_line_where_only_such_a_batch_keeps_rows_apart(lines):
    assert chosen(all_before_unless_one_line, micro_batch_size=lines) == BatchLayout(1, True, lines * 64)
    assert chosen(other_lines, micro_batch_size=lines) == BatchLayout(1, True, lines * 64)


@pytest.mark.parametrize("lines", [1, 2])
def test_padding_where_rows_always_see_each_other(lines):
    assert chosen(all_before, micro_batch_size=lines) == BatchLayout(lines, False, 64)


def test_one_line_is_enough_for_such_an_attention():
    assert chosen(all_before_unless_one_line, micro_batch_size=1) == BatchLayout(1, True, 64)


def test_padding_without_a_try_where_packing_is_off():
    model = ScriptedModel(nothing)
    training = TrainingConfig(packing=False, micro_batch_size=3, max_length=64)
    assert choose_layout(training, model, bool) == BatchLayout(3, False, 64)
    assert not model.shapes


def test_a_rank_that_sees_rows_mix_decides_for_all():
    training = TrainingConfig(micro_batch_size=2, max_length=64)
    answers = iter([False, True])
    assert choose_layout(training, ScriptedModel(nothing), lambda _: next(answers)) == BatchLayout(1, True, 128)


def test_what_is_tried_has_the_shape_of_what_is_run():
    model = ScriptedModel(nothing)
    choose_layout(TrainingConfig(micro_batch_size=3, max_length=64), model, bool)
    assert max(num_lines for num_lines, _ in model.shapes) == 3
    assert [layout.num_lines for layout in layouts(TrainingConfig(micro_batch_size=3))] == [3, 1, 3]
