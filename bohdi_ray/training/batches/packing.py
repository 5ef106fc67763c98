"""Chooses a layout of rows in micro-batches in which no row sees another. The model itself is tested, in the shapes
that will be used; pure, given the model's losses.

Called by the learner once, before training. Nothing is looked up by name: attention implementations differ in when they
derive packs from positions (transformers' FlashAttention does so only if a batch has one line), and models with a
recurrent state (linear attention, convolutions) carry it from row to row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bohdi_ray.config import TrainingConfig
from bohdi_ray.training.batches.batches import Batch, make_batch, micro_batches
from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow

logger = logging.getLogger(__name__)
RowLosses = Callable[[Batch], Sequence[float]]  # the loss sum of each row of a batch, in its order
# Another neighbour must change nothing; only the order of a sum may differ on a GPU.
SAME = 1e-5
# Alone and in a pack a row is computed in other shapes, which rounds differently in bfloat16.
ALIKE = 0.02


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Micro-batches of `num_lines` lines; with `packing` several rows per line, up to `capacity` tokens."""

    num_lines: int
    packing: bool
    capacity: int

    def batches(self, examples: Sequence[EncodedExample]) -> list[Batch]:
        """Batches that contain each example once, not split."""
        return micro_batches(examples, self.num_lines, self.packing, self.capacity)


def layouts(training: TrainingConfig) -> Iterator[BatchLayout]:
    """The layouts to try, best first; the last one always keeps rows apart: each row has its own line, padded at the
    end."""
    lines, length = training.micro_batch_size, training.max_length
    if training.packing:
        yield BatchLayout(lines, True, length)
        if lines > 1:
            yield BatchLayout(1, True, lines * length)  # as many tokens at once, in one long line
    yield BatchLayout(lines, False, length)


def choose_layout(training: TrainingConfig, row_losses: RowLosses, agreed: Callable[[bool], bool]) -> BatchLayout:
    """The first layout in which this model computes the same losses for a row as when it is alone.

    `agreed` combines the answers of all ranks into one, because all ranks must run the model together.
    """
    tried = list(layouts(training))
    for layout in tried[:-1]:
        if agreed(keeps_rows_apart(layout, row_losses)):
            if layout != tried[0]:
                logger.warning(
                    "this model's attention keeps packed rows apart only in a batch of one line: "
                    "micro-batches are one line of up to %d tokens",
                    layout.capacity,
                )
            return layout
    if training.packing:
        logger.warning("packed rows influence each other in this model: each row is padded instead")
    return tried[-1]


def keeps_rows_apart(layout: BatchLayout, row_losses: RowLosses) -> bool:
    """Whether rows between other rows, in a batch of this layout's shape, have the same losses as alone.

    Each line holds a row between two others, and lines differ in length, so that some end in padding.
    """
    rows = [EncodedRow(tuple(range(5 + k, 25 + k)), 1) for k in range(min(2 * layout.num_lines, 4))]
    rows = [rows[k % len(rows)] for k in range(max(layout.num_lines, 2))]

    def between(first_id: int) -> list[float]:
        """Losses of `rows` between neighbours whose ids begin at `first_id`."""
        packs = []
        for k, row in enumerate(rows):
            ids = range(first_id, first_id + 12 + k % 3)
            packs.append([EncodedRow(tuple(ids), 1), row, EncodedRow(tuple(reversed(ids)), 1)])
        lines = packs if layout.num_lines > 1 else [[row for pack in packs for row in pack]]
        return list(row_losses(make_batch(lines, packing=True)))[1::3]

    alone = list(row_losses(make_batch([[rows[0]]], packing=True)))
    here, there = between(30), between(50)
    return all(abs(a - b) <= SAME * abs(a) for a, b in zip(here, there, strict=True)) and (
        abs(alone[0] - here[0]) <= ALIKE * abs(alone[0])
    )
