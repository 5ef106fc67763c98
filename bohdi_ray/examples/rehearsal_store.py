"""The rehearsal rows of a round, one Parquet file each: every question that was asked, whether or not it became a row.

A rehearsal task of the driver's writes them once the round is closed, before its rows are queued; they never change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.errors import RunDirError
from bohdi_ray.records import RehearsalRow
from bohdi_ray.run.run_dir import REPLAY, RunDir

SCHEMA = pa.schema(
    [
        pa.field("replay_id", pa.string(), nullable=False),
        pa.field("path", pa.list_(pa.string()), nullable=False),
        pa.field("leader", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("num_tokens", pa.int64(), nullable=False),
        pa.field("rejected", pa.string()),
    ]
)
assert SCHEMA.names == [field.name for field in fields(RehearsalRow)]


@dataclass(frozen=True)
class RehearsalCounts:
    """What came of a round's questions: how many were "kept", or no row for which reason, and tokens decoded."""

    counts: dict[str, int]
    num_tokens: int


def figures_of(rows: Iterable[RehearsalRow]) -> RehearsalCounts:
    """Of all that was asked for a round."""
    rows = list(rows)
    return RehearsalCounts(
        counts=dict(Counter(row.rejected or "kept" for row in rows)), num_tokens=sum(row.num_tokens for row in rows)
    )


class RehearsalStore:
    """The rehearsal rows of one run."""

    def __init__(self, run: RunDir):
        self.run = run
        # By round, once read: many rounds may train on its sure rows.
        self._known: dict[int, tuple[list[RehearsalRow], RehearsalCounts]] = {}

    def has(self, round: int) -> bool:
        return self.run.exists(_name(round))

    def write(self, round: int, rows: Sequence[RehearsalRow]) -> None:
        """All that was asked for a round. Atomic."""
        table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        self.run.write_bytes(_name(round), sink.getvalue())

    def kept(self, round: int, most: int) -> list[RehearsalRow]:
        """What a round trains on: its first `most` questions with a sure answer, none of them twice; where there are
        fewer, those of the rounds before it, the last one first. Answers of version 0 do not age."""
        found: dict[str, RehearsalRow] = {}
        for asked in range(round, -1, -1):
            # Rounds before rehearsal was turned on have none.
            if len(found) >= most or (asked < round and not self.has(asked)):
                break
            for row in self._read_once(asked)[0]:
                found.setdefault(row.question, row)
        return list(found.values())[:most]

    def figures(self, round: int) -> RehearsalCounts:
        """What came of a round's questions; of a round without rehearsal, nothing."""
        return self._read_once(round)[1] if self.has(round) else figures_of([])

    def _read_once(self, round: int) -> tuple[list[RehearsalRow], RehearsalCounts]:
        if round not in self._known:
            rows = self.read(round)
            self._known[round] = [row for row in rows if row.rejected is None], figures_of(rows)
        return self._known[round]

    def read(self, round: int) -> list[RehearsalRow]:
        """All that was asked for a round. Raises RunDirError if it is missing, damaged or of another version."""
        where = f"{self.run.location}/{_name(round)}"
        try:
            with self.run.filesystem.open_input_file(self.run.path(_name(round))) as source:
                table = pq.read_table(source, page_checksum_verification=True)
            table.validate(full=True)
            if not table.schema.equals(SCHEMA):
                raise ValueError("another version wrote it")
            return [RehearsalRow(**line | {"path": tuple(line["path"])}) for line in table.to_pylist()]
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as error:
            raise RunDirError(f"{where} cannot be read ({error!r:.300}); restore it from a copy") from error


def _name(round: int) -> str:
    return f"{REPLAY}/round-{round:04d}.parquet"
