"""The SampleQueue as a Ray Dataset: one Dataset per rank, whose i-th read task yields the i-th step of this rank.

Used by launch.py (building) and loop.py (decoding the blocks). A read is a look, never a pop, so Ray Data may repeat
it. An error in a read task would end the dataset and the trainer with it, so a read waits for a queue that is
restarting.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from bohdi_ray.errors import SEE_LOGS, DeadlineExceeded
from bohdi_ray.records import TrainingRow
from bohdi_ray.training.feed.queue import AttemptPlan, Ended, NotYet
from bohdi_ray.training.feed.steps import GlobalStep

TAKE_WAIT_S = 20.0  # one long poll
QUEUE_AWAY_S = 300.0  # longest time a queue may be unreachable, its restart included

HEADER, ROW, HELDOUT, ENDED = "header", "row", "heldout", "ended"
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("step", pa.int64()),
        ("round", pa.int64()),
        ("last_of_round", pa.bool_()),
        ("put_at", pa.float64()),
        ("row_round", pa.int64()),
        ("index", pa.int64()),
        ("sample_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("reasoning", pa.string()),
    ]
)
ROW_FIELDS = ("index", "sample_id", "question", "answer", "reasoning")


def table_of_step(step: GlobalStep | Ended) -> pa.Table:
    """One Arrow table per step. The first line is a header, so that a share without rows is still a block."""
    if isinstance(step, Ended):
        return pa.Table.from_pylist([{"kind": ENDED}], schema=SCHEMA)
    head: dict[str, Any] = {"step": step.step, "round": step.round, "last_of_round": step.last_of_round}
    lines = [{**head, "kind": HEADER, "put_at": step.put_at}]
    for kind, rows in ((ROW, step.rows), (HELDOUT, step.heldout)):
        for row in rows:
            fields = {"row_round": row.round, "index": row.index, "sample_id": row.sample_id}
            texts = {"question": row.question, "answer": row.answer, "reasoning": row.reasoning}
            lines.append({**head, "kind": kind, **fields, **texts})
    return pa.Table.from_pylist(lines, schema=SCHEMA)


def step_of_table(table: pa.Table) -> GlobalStep | Ended:
    """The inverse of `table_of_step`."""
    lines = table.to_pylist()
    head = lines[0]
    if head["kind"] == ENDED:
        return Ended()
    assert head["kind"] == HEADER and {line["step"] for line in lines} == {head["step"]}, "a block holds one step"

    def rows(kind: str) -> tuple[TrainingRow, ...]:
        return tuple(
            TrainingRow(line["row_round"], *(line[name] for name in ROW_FIELDS))
            for line in lines
            if line["kind"] == kind
        )

    return GlobalStep(head["step"], head["round"], rows(ROW), head["last_of_round"], rows(HELDOUT), head["put_at"])


def read_step(queue: Any, attempt: int, world_size: int, rank: int, step: int) -> Iterable[pa.Table]:
    """Body of one read task: waits for the step, however long its round takes, and through restarts of the queue."""
    away_since: float | None = None
    while True:
        try:
            # Four long polls is far beyond what a living queue needs for one.
            taken = ray.get(queue.take.remote(attempt, world_size, rank, step, TAKE_WAIT_S), timeout=4 * TAKE_WAIT_S)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > QUEUE_AWAY_S:
                raise DeadlineExceeded(
                    "the sample queue to come back",
                    QUEUE_AWAY_S,
                    SEE_LOGS,
                ) from error
            time.sleep(1)
            continue
        away_since = None
        if not isinstance(taken, NotYet):
            yield table_of_step(taken)
            return


class StepDatasource(Datasource):
    """Read task i yields step `first_step + i` of one rank."""

    def __init__(self, queue: Any, plan: AttemptPlan, world_size: int, rank: int, num_steps: int):
        super().__init__()
        self._queue, self._plan, self._num_steps = queue, plan, num_steps
        self._world_size, self._rank = world_size, rank

    def get_name(self) -> str:
        return f"SampleQueue{self._rank}"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        first = self._plan.resume.next_step
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        where = (self._queue, self._plan.attempt, self._world_size, self._rank)
        # One task more than steps: it sees the end.
        return [
            ReadTask(functools.partial(read_step, *where, first + offset), metadata, schema=SCHEMA)
            for offset in range(self._num_steps + 1)
        ]


class RankDataset:
    """Makes a rank's Dataset anew at every start of the worker group; Ray Train calls it in its controller."""

    def __init__(self, queue: Any, world_size: int, rank: int, num_steps: int, last_attempt: int):
        self._queue, self._world_size, self._rank, self._num_steps = queue, world_size, rank, num_steps
        self._attempt = last_attempt

    def __call__(self) -> Dataset:
        self._attempt += 1
        plan = ray.get(self._queue.plan.remote(self._attempt), timeout=QUEUE_AWAY_S)
        source = StepDatasource(self._queue, plan, self._world_size, self._rank, self._num_steps)
        # concurrency=1 keeps the steps in order; a read holds a sliver of a CPU because it only waits.
        return ray.data.read_datasource(source, num_cpus=0.01, concurrency=1, override_num_blocks=self._num_steps + 1)
