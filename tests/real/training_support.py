"""Shared by the real training tests: configurations over tiny models, rows, and a wait for a round."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import above
from bohdi_ray.errors import RunDirError
from bohdi_ray.examples.kinds import Completion, from_table
from bohdi_ray.examples.parts import read_part
from bohdi_ray.examples.sample_store import part_name
from bohdi_ray.examples.store import ExampleStore, example_id
from bohdi_ray.run.run_dir import RunDir


def tiny_config(
    model_dir: Path, rounds: int = 2, rows: int = 6, system_prompt: str | None = None, **training: Any
) -> FusionConfig:
    """A fusion whose target is `model_dir`; training fields as given over small defaults."""
    defaults = {"learning_rate": 1e-2, "global_batch_size": 4, "micro_batch_size": 2, "max_length": 128}
    return FusionConfig.model_validate(
        {
            "run_dir": "unused",
            "sources": [{"name": "source", "model": str(model_dir)}],
            "target": {"name": "target", "model": str(model_dir), "system_prompt": system_prompt},
            "enlightenment": {"steps": 1, "rows_per_step": rows},
            "training": defaults | training,
            "stop": {"rounds": rounds},
        }
    )


def some_rows(round: int, count: int) -> list[Completion]:
    """Rows of different lengths."""
    return [
        Completion(
            example_id(Completion, round, 0, i), f"What is {i} times {i}?", f"It is {i * i}, I think. " * (1 + i % 4)
        )
        for i in range(count)
    ]


def stored(checkpoints: Any, rows: Sequence[Completion]) -> list[str]:
    """Puts the rows beside those that the run of this checkpoints folder has; returns their ids."""
    store = ExampleStore(RunDir(above(str(checkpoints))))
    parts: dict[tuple[int, int], list[Completion]] = {}
    for row in rows:
        _, round, step, _ = row.example_id.split("-")
        parts.setdefault((int(round[1:]), int(step[1:])), []).append(row)
    for (round, step), new in parts.items():
        known: dict[str, Any] = {}
        with contextlib.suppress(RunDirError):
            name = f"examples/completion/{part_name(round, step)}"
            known = {one.example_id: one for one in from_table(read_part(store.run, name), Completion)}
        store.write(round, step, list((known | {row.example_id: row for row in new}).values()))
    return [row.example_id for row in rows]


def put_rows(
    queue: Any, checkpoints: Any, round: int, rows: Sequence[Completion], heldout: Sequence[Completion] = ()
) -> None:
    """Stores the rows and queues their ids as a round's."""
    import ray

    put = queue.put_round.remote(round, stored(checkpoints, rows), stored(checkpoints, heldout))
    ray.get(put, timeout=60)


def encoded(learner: Any, rows: Sequence[Completion]) -> list[Any]:
    """The rows as the learner takes them."""
    from bohdi_ray.training.objectives.objective import encode_all

    usable, rejected = encode_all(learner.objective, learner.encoder, rows)
    assert not rejected, rejected
    return usable


def wait_for_round(ray: Any, queue: Any, trainer: Any, round: int, timeout_s: float) -> dict[str, Any]:
    """Metrics of a committed round; raises what killed the trainer, or TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not ray.get(queue.wait_committed.remote(round, 1.0), timeout=30):
        trainer.raise_if_dead()
        if time.monotonic() > deadline:
            raise TimeoutError(f"round {round} was not committed within {timeout_s} s")
    return ray.get(queue.metrics.remote(round), timeout=30)


def of_rank_0(
    program: str,
    world_size: int,
    deadline_s: float,
    cases: list[dict],
    folder: Path,
    *arguments: str,
    **environment: str,
) -> list[dict]:
    """What rank 0 of a program of this folder that calls `write_cases` found, by case."""
    import torch

    cases_file, out = folder / f"cases-{world_size}.json", folder / f"found-{world_size}.pt"
    cases_file.write_text(json.dumps(cases))
    run_ranks(program, world_size, deadline_s, cases_file, out, *arguments, **environment)
    return torch.load(out)


@contextlib.contextmanager
def process_group() -> Iterator[tuple[int, int, list[str]]]:
    """Of a program that `run_ranks` runs: its rank, the number of ranks, and the further arguments."""
    rank, world_size, (port, *arguments) = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank)
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    yield rank, world_size, arguments
    dist.barrier()
    dist.destroy_process_group()


def write_cases(work: Callable[..., dict[str, Any]]) -> None:
    """Body of a program that `of_rank_0` runs: rank 0 writes what `work(case, rank, world_size, *arguments)` gave for
    each case."""
    import torch

    with process_group() as (rank, world_size, (cases_file, out, *arguments)):
        cases = json.loads(Path(cases_file).read_text())
        found = [work(case, rank, world_size, *arguments) for case in cases]
        if rank == 0:
            torch.save(found, out)


def learner_of(case: dict, objective: Any = None) -> Any:
    """The learner of a case: {"config": ..., "base": folder of the published base, ...}."""
    from bohdi_ray.training.learner import Learner

    config = FusionConfig.model_validate(case["config"])
    return Learner(config, os.path.join(case["base"], "weights"), case["base"], "cpu", objective=objective)


def step_gradients(learner: Any) -> list[dict[str, Any]]:
    """The gradients of each step from now on, by name, before they are applied."""
    from deepspeed.utils import safe_get_full_grad

    engine, apply_step, of_steps = learner._engine, learner._engine.step, list[dict[str, Any]]()

    def step() -> None:
        named = engine.module.named_parameters()
        of_steps.append({name: safe_get_full_grad(parameter).float().clone() for name, parameter in named})
        apply_step()

    engine.step = step
    return of_steps


def run_ranks(program: str, world_size: int, deadline_s: float, *arguments: object, **environment: str) -> None:
    """Runs a program of this folder as the ranks of a process group: `program RANK WORLD_SIZE PORT ARGUMENT...`."""
    here = Path(__file__).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join(map(str, (here.parents[1], here, here.parent)))
    processes = [
        subprocess.Popen(
            [sys.executable, str(here / program), *map(str, (rank, world_size, port, *arguments))],
            env=os.environ | environment | {"PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=deadline_s)
            assert process.returncode == 0, output[-4000:]
    finally:
        for process in processes:
            process.kill()
