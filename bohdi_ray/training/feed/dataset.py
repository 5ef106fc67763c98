"""A rank's Ray Dataset: take a numbered step from the SampleQueue, read its examples by id, encode them.

Three things in two stages, which Ray Data runs in one actor, one Dataset per rank:

    take    read task i waits for step `first + i`
    encode  the step's examples are read by id and encoded (feed/encoder.py)

The rank gets token rows and tokenises nothing. Used by launch.py (building) and loop.py (the steps). A take does not
remove the step, so Ray Data may repeat it. An error in a read task would end the dataset and the trainer with it, so a
read waits while the queue restarts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from bohdi_ray.errors import SEE_LOGS, DeadlineExceeded
from bohdi_ray.placement.placement import SMALL_CPUS
from bohdi_ray.training.feed.encoded_step import EncodedStep, StepLines, lines_of_end
from bohdi_ray.training.feed.encoder import EncoderSpec, StepEncoder
from bohdi_ray.training.feed.queue import Attempt, Ended, NotYet
from bohdi_ray.training.feed.steps import GlobalStep

TAKE_WAIT_S = 20.0  # one long poll
QUEUE_AWAY_S = 300.0  # longest time a queue may be unreachable, its restart included

IDS = pa.list_(pa.string())
STEP_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),  # null: no step will come
        ("round", pa.int64()),
        ("rows", IDS),
        ("last_of_round", pa.bool_()),
        ("heldout", IDS),
        ("new_heldout", IDS),
        ("put_at", pa.float64()),
    ]
)


def table_of_step(step: GlobalStep | Ended) -> pa.Table:
    """One Arrow table per step, with one line."""
    line = {} if isinstance(step, Ended) else {name: getattr(step, name) for name in STEP_SCHEMA.names}
    return pa.Table.from_pylist([line], schema=STEP_SCHEMA)


def step_of_table(table: pa.Table) -> GlobalStep | Ended:
    """The inverse of `table_of_step`."""
    (line,) = table.to_pylist()
    if line["step"] is None:
        return Ended()
    return GlobalStep(
        line["step"],
        line["round"],
        tuple(line["rows"]),
        line["last_of_round"],
        tuple(line["heldout"]),
        tuple(line["new_heldout"]),
        line["put_at"],
    )


def read_step(queue: Any, attempt: int, world_size: int, rank: int, step: int) -> Iterable[pa.Table]:
    """Body of one read task: waits for the step, however long its round takes, and through restarts of the queue."""
    away_since: float | None = None
    while True:
        try:
            # Four long polls is far beyond what a living queue needs for one.
            waiting = queue.wait_step.remote(attempt, world_size, rank, step, TAKE_WAIT_S)
            taken = ray.get(waiting, timeout=4 * TAKE_WAIT_S)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > QUEUE_AWAY_S:
                raise DeadlineExceeded("the sample queue to come back", QUEUE_AWAY_S, SEE_LOGS) from error
            time.sleep(1)
            continue
        away_since = None
        if not isinstance(taken, NotYet):
            yield table_of_step(taken)
            return


class EncodeBlocks:
    """The encoding stage of the Dataset: maps a block of a step's ids to a block of its token rows."""

    def __init__(self, spec: EncoderSpec):
        self._encoder = StepEncoder(spec)

    def __call__(self, table: pa.Table) -> pa.Table:
        step = step_of_table(table)
        return lines_of_end() if isinstance(step, Ended) else self._encoder.encode(step)


class StepDatasource(Datasource):
    """Read task i yields step `first_step + i` of one rank."""

    def __init__(self, queue: Any, attempt: Attempt, world_size: int, rank: int, num_steps: int):
        super().__init__()
        self._queue, self._attempt, self._num_steps = queue, attempt, num_steps
        self._world_size, self._rank = world_size, rank

    def get_name(self) -> str:
        return f"SampleQueue{self._rank}"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        first = self._attempt.resume.next_step
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        where = (self._queue, self._attempt.attempt, self._world_size, self._rank)
        # One task more than steps: it sees the end.
        return [
            ReadTask(functools.partial(read_step, *where, first + offset), metadata, schema=STEP_SCHEMA)
            for offset in range(self._num_steps + 1)
        ]


class RankDataset:
    """Creates a rank's Dataset at every start of the worker group; Ray Train calls it in its controller."""

    def __init__(self, queue: Any, encoder: EncoderSpec, world_size: int, rank: int, num_steps: int, last_attempt: int):
        self._queue, self._encoder = queue, encoder
        self._world_size, self._rank, self._num_steps = world_size, rank, num_steps
        self._attempt = last_attempt

    def __call__(self) -> Dataset:
        self._attempt += 1
        attempt = ray.get(self._queue.begin.remote(self._attempt), timeout=QUEUE_AWAY_S)
        source = StepDatasource(self._queue, attempt, self._world_size, self._rank, self._num_steps)
        # concurrency=1 keeps the steps in order.
        taken = ray.data.read_datasource(
            source, num_cpus=SMALL_CPUS, concurrency=1, override_num_blocks=self._num_steps + 1
        )
        return taken.map_batches(
            EncodeBlocks,
            batch_size=None,
            batch_format="pyarrow",
            # One task at a time: Ray Data looks at once when the only task it waits for has ended, else every 0.1 s.
            compute=ray.data.ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=1),
            num_cpus=SMALL_CPUS,  # a step's rows take milliseconds; placement counts it
            fn_constructor_args=(self._encoder,),
        )


def steps_of(blocks: Iterable[pa.Table]) -> Iterator[EncodedStep | Ended]:
    """The steps in the blocks of a rank's Dataset, in order, then Ended. A large step may come in several blocks."""
    lines, expected = StepLines(), None
    for table in blocks:
        for step in lines.add(table):
            if isinstance(step, EncodedStep):
                assert expected in (None, step.step), f"step {step.step} arrived where {expected} was expected"
                expected = step.step + 1
            yield step
    yield Ended()
