"""Encoded examples -> padded or packed batches of plain lists. Pure.

Used by the learner, by evaluation/heldout_loss.py and the benchmarks. An example is never split: all its rows are in
one micro-batch, next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow

IGNORED = -100  # label of a token without loss


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch as nested lists, all lines of one length. Several rows may be in one line (a pack).

    input_ids, position_ids, labels, segments: [lines][length]. `labels` are at their own token's position (not
    shifted); segments hold the row's place in `rows`, -1 on padding. Positions restart at 0 with each row and, on
    padding of a packed batch, at each token, so that attention which reads packs from positions keeps all of them
    apart. No attention mask is needed: the padding is behind the rows and causal attention never looks there.
    """

    examples: tuple[EncodedExample, ...]
    input_ids: list[list[int]]
    position_ids: list[list[int]]
    labels: list[list[int]]
    segments: list[list[int]]

    @property
    def rows(self) -> tuple[EncodedRow, ...]:
        """The rows of all examples, one after another."""
        return tuple(row for example in self.examples for row in example.rows)

    @property
    def num_answer_tokens(self) -> int:
        return sum(example.num_answer_tokens for example in self.examples)

    @property
    def num_tokens(self) -> int:
        return sum(example.num_tokens for example in self.examples)


def plan_packs(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Groups examples into packs, first-fit decreasing: no pack is longer than `capacity` (a single example may be,
    alone)."""
    packs: list[list[int]] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for pack, left in enumerate(room):
            if lengths[example] <= left:
                packs[pack].append(example)
                room[pack] -= lengths[example]
                break
        else:
            packs.append([example])
            room.append(capacity - lengths[example])
    return packs


def micro_batches(
    examples: Sequence[EncodedExample], micro_batch_size: int, packing: bool, max_length: int
) -> list[Batch]:
    """All examples in micro-batches of at most `micro_batch_size` lines, longest first, so that lines of one
    micro-batch have similar lengths. Without packing, and for an example of several rows that fits no line, each row
    has a line of its own. An example with more rows than `micro_batch_size` is a micro-batch by itself."""
    capacity = max_length if packing else 0
    chunks: list[list[EncodedExample]] = []
    lines: list[list[list[EncodedRow]]] = []
    for pack in plan_packs([example.num_tokens for example in examples], capacity):
        packed = [examples[i] for i in pack]
        new = [[row for example in packed for row in example.rows]]
        if packed[0].num_tokens > capacity:
            new = [[row] for row in packed[0].rows]
        if not lines or len(lines[-1]) + len(new) > micro_batch_size:
            chunks.append([])
            lines.append([])
        chunks[-1] += packed
        lines[-1] += new
    return [make_batch(of_batch, packing, chunk) for of_batch, chunk in zip(lines, chunks, strict=True)]


def make_batch(
    lines: Sequence[Sequence[EncodedRow]], packing: bool, examples: Sequence[EncodedExample] | None = None
) -> Batch:
    """One micro-batch from lines of rows, which belong to `examples`; by default each row is an example. Padding ids
    are 0: nothing attends to them and they have no label."""
    length = max(sum(len(row.ids) for row in line) for line in lines)
    if examples is None:
        examples = [EncodedExample("", (row,)) for line in lines for row in line]
    batch = Batch(tuple(examples), [], [], [], [])
    number = 0
    for line in lines:
        ids: list[int] = []
        positions: list[int] = []
        labels: list[int] = []
        segments: list[int] = []
        for row in line:
            ids += row.ids
            positions += range(len(row.ids))
            labels += [IGNORED] * row.num_prompt + list(row.ids[row.num_prompt :])
            segments += [number] * len(row.ids)
            number += 1
        padding = length - len(ids)
        batch.position_ids.append(positions + ([0] * padding if packing else list(range(len(ids), length))))
        batch.input_ids.append(ids + [0] * padding)
        batch.labels.append(labels + [IGNORED] * padding)
        batch.segments.append(segments + [-1] * padding)
    return batch


def empty_batch(token_id: int = 0) -> Batch:
    """A micro-batch with weight zero, for a rank that has fewer micro-batches than another."""
    return Batch((), [[token_id, token_id]], [[0, 1]], [[IGNORED, IGNORED]], [[-1, -1]])
