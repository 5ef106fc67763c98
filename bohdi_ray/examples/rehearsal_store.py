"""The rehearsal rows of a round, one Parquet file each: every question that was asked, accepted as a row or not.

A rehearsal task of the driver's writes them once the round is closed, before its rows are queued; they never change.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import pyarrow as pa

from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.examples.parts import UNREADABLE, read_part, write_part
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
REPLAY_ID = re.compile(r"replay-r(\d{4,12})-t\d{5,12}", re.ASCII)
assert SCHEMA.names == [field.name for field in fields(RehearsalRow)]


@dataclass(frozen=True)
class RehearsalCounts:
    """Counts of a round's rehearsal questions: how many were kept as rows, how many were rejected for which reason, and
    tokens decoded."""

    counts: dict[str, int]
    num_tokens: int


def figures_of(rows: Iterable[RehearsalRow]) -> RehearsalCounts:
    """Counts over all questions asked for a round."""
    rows = list(rows)
    return RehearsalCounts(
        counts=dict(Counter(row.rejected or "kept" for row in rows)), num_tokens=sum(row.num_tokens for row in rows)
    )


class RehearsalStore:
    """The rehearsal rows of one run. Between calls it keeps ids and counts, and the texts of one round."""

    def __init__(self, run: RunDir):
        self.run = run
        # By round, once read: many rounds may train on its sure rows. Question's hash by id, figures.
        self._known: dict[int, tuple[dict[str, str], RehearsalCounts]] = {}
        self._without: set[int] = set()  # rounds that are over and have none, as in a stage without rehearsal
        self._texts: tuple[int, dict[str, Completion]] = (-1, {})

    def has(self, round: int) -> bool:
        return self.run.exists(_name(round))

    def write(self, round: int, rows: Sequence[RehearsalRow]) -> None:
        """Stores all questions asked for a round. Atomic."""
        table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
        write_part(self.run, _name(round), table)

    def kept_ids(self, round: int, most: int) -> list[str]:
        """The rehearsal rows that a round trains on: its first `most` distinct questions with a sure answer and, if
        there are fewer, those of earlier rounds, the latest first. Answers of version 0 do not become outdated."""
        found: dict[str, str] = {}  # id by question's hash
        for asked in range(round, -1, -1):
            if len(found) >= most:
                break
            if asked in self._without or (asked < round and not self.has(asked)):
                self._without.add(asked)
                continue
            for replay_id, question in self._read_once(asked)[0].items():
                found.setdefault(question, replay_id)
        return list(found.values())[:most]

    def figures(self, round: int) -> RehearsalCounts:
        """Counts of a round's rehearsal questions; all zero for a round without rehearsal."""
        return self._read_once(round)[1] if self.has(round) else figures_of([])

    def _read_once(self, round: int) -> tuple[dict[str, str], RehearsalCounts]:
        if round not in self._known:
            rows = self.read(round)
            sure = {row.replay_id: digest(row.question) for row in rows if row.rejected is None}
            self._known[round] = sure, figures_of(rows)
        return self._known[round]

    def completions(self, replay_ids: Iterable[str]) -> dict[str, Completion]:
        """Questions with their answers by id. Raises RunDirError for an id without a row."""
        found = {}
        for replay_id in sorted(set(replay_ids)):
            match = REPLAY_ID.fullmatch(replay_id)
            if match is None:
                raise RunDirError(f"{replay_id!r} is not the id of a rehearsal row; ids look like replay-r0003-t00007")
            if (round := int(match[1])) != self._texts[0]:
                self._texts = (
                    round,
                    {row.replay_id: Completion(row.replay_id, row.question, row.answer) for row in self.read(round)},
                )
            if replay_id not in self._texts[1]:
                raise RunDirError(f"{self.run.location}/{_name(round)} has no row {replay_id}")
            found[replay_id] = self._texts[1][replay_id]
        return found

    def read(self, round: int) -> list[RehearsalRow]:
        """All questions asked for a round. Raises RunDirError if the file is missing, damaged or of another version."""
        where, table = f"{self.run.location}/{_name(round)}", read_part(self.run, _name(round))
        try:
            if not table.schema.equals(SCHEMA):
                raise ValueError("another version wrote it")
            return [RehearsalRow(**line | {"path": tuple(line["path"])}) for line in table.to_pylist()]
        except UNREADABLE as error:
            raise RunDirError(f"{where} cannot be read ({error!r:.300}); restore it from a copy") from error


def digest(text: str) -> str:
    """128 bits of the text, exactly as written."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _name(round: int) -> str:
    return f"{REPLAY}/round-{round:04d}.parquet"
