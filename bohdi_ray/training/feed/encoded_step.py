"""A rank's share of a global step as token rows, and its Arrow blocks. Pure.

Made by feed/encoder.py, read by the train loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow, Rejected
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.feed.steps import GlobalStep


@dataclass(frozen=True, slots=True)
class EncodedStep:
    """The rows that one rank trains on in a step and, with the last step of a round, those that it evaluates."""

    step: int
    round: int
    last_of_round: bool
    put_at: float  # when its round was put, Unix time, s
    rows: tuple[EncodedExample | Rejected, ...]
    heldout: tuple[str, ...] = ()  # ids
    new_heldout: tuple[EncodedExample | Rejected, ...] = ()  # of these, those that no earlier step had

    @property
    def usable(self) -> list[EncodedExample]:
        return [row for row in self.rows if isinstance(row, EncodedExample)]

    @property
    def rejected(self) -> list[Rejected]:
        return [row for row in self.rows if isinstance(row, Rejected)]


HEADER, ROW, HELDOUT, END = "header", "row", "heldout", "end"
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("step", pa.int64()),
        ("round", pa.int64()),
        ("last_of_round", pa.bool_()),
        ("put_at", pa.float64()),
        ("num_lines", pa.int64()),  # of the step, the header included
        ("heldout", pa.list_(pa.string())),
        ("example_id", pa.string()),
        ("reason", pa.string()),  # of an example that cannot be used
        ("ids", pa.list_(pa.list_(pa.int32()))),
        ("num_prompt", pa.list_(pa.int32())),
        ("payload", pa.binary()),
    ]
)


def lines_of_step(
    step: GlobalStep,
    rows: Sequence[EncodedExample | Rejected],
    new_heldout: Sequence[EncodedExample | Rejected],
) -> pa.Table:
    """One Arrow table per step. The first line is a header, so that a share without rows is still a block."""
    header = {name: getattr(step, name) for name in ("step", "round", "last_of_round", "put_at", "heldout")}
    lines = [{**header, "kind": HEADER, "num_lines": 1 + len(rows) + len(new_heldout)}]
    lines += [_line(ROW, step.step, one) for one in rows]
    lines += [_line(HELDOUT, step.step, one) for one in new_heldout]
    return pa.Table.from_pylist(lines, schema=SCHEMA)


def lines_of_end() -> pa.Table:
    """The block after the last step."""
    return pa.Table.from_pylist([{"kind": END}], schema=SCHEMA)


def _line(kind: str, step: int, one: EncodedExample | Rejected) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": kind, "step": step, "example_id": one.example_id}
    if isinstance(one, Rejected):
        return {**line, "reason": one.reason}
    ids, num_prompt = [row.ids for row in one.rows], [row.num_prompt for row in one.rows]
    return {**line, "ids": ids, "num_prompt": num_prompt, "payload": one.payload}


class StepLines:
    """Assembles steps from blocks; a large step may span several."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> Iterator[EncodedStep | Ended]:
        """The steps that this block completes."""
        for line in table.to_pylist():
            if line["kind"] == END:
                yield Ended()
                continue
            self._lines.append(line)
            header = self._lines[0]
            assert header["kind"] == HEADER and line["step"] == header["step"], "a block belongs to one step"
            if len(self._lines) == header["num_lines"]:
                yield _step(header, self._lines[1:])
                self._lines = []


def _step(header: dict[str, Any], lines: list[dict[str, Any]]) -> EncodedStep:
    def of(kind: str) -> tuple[EncodedExample | Rejected, ...]:
        return tuple(_example(line) for line in lines if line["kind"] == kind)

    plain = {name: header[name] for name in ("step", "round", "last_of_round", "put_at")}
    return EncodedStep(**plain, rows=of(ROW), heldout=tuple(header["heldout"]), new_heldout=of(HELDOUT))


def _example(line: dict[str, Any]) -> EncodedExample | Rejected:
    if line["reason"] is not None:
        return Rejected(line["example_id"], line["reason"])
    rows = tuple(EncodedRow(tuple(ids), n) for ids, n in zip(line["ids"], line["num_prompt"], strict=True))
    return EncodedExample(line["example_id"], rows, line["payload"])
