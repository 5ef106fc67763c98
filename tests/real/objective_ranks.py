"""Objectives of tests under the product's learner: run as a program by test_objectives.py.

    objective_ranks.py RANK WORLD_SIZE PORT PROGRAM CASES_JSON OUT
Rank 0 writes what `pairs` or `distributions` found for each case.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(rank: int, world_size: int, port: str, program: str, cases_file: str, out: str) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank)
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    with open(cases_file, encoding="utf-8") as file:
        cases = json.load(file)
    work = {"pairs": pairs_of, "distributions": distributions_of}[program]
    results = [work(case, rank, world_size) for case in cases]
    if rank == 0:
        torch.save(results, out)
    dist.barrier()
    dist.destroy_process_group()


def learner_of(case: dict, objective: Any) -> Any:
    from bohdi_ray.config import FusionConfig
    from bohdi_ray.training.learner import Learner

    config = FusionConfig.model_validate(case["config"])
    return Learner(config, os.path.join(case["base"], "weights"), case["base"], "cpu", objective=objective)


def pairs_of(case: dict, rank: int, world_size: int) -> dict[str, Any]:
    """Two steps of one round: gradients of the first, the terms of both, and which pairs are wrong in the end."""
    import torch.distributed as dist
    from deepspeed.utils import safe_get_full_grad
    from probe_objectives import Pairs, pairs

    from bohdi_ray.training.feed.steps import share_of_rank
    from bohdi_ray.training.objectives.objective import encode_all

    learner, gradients = learner_of(case, Pairs()), {}
    engine, apply_step = learner._engine, learner._engine.step

    def step() -> None:
        for name, parameter in engine.module.named_parameters():
            gradients.setdefault(name, safe_get_full_grad(parameter).float().clone())
        apply_step()

    engine.step = step
    # Five pairs: with two ranks one has a micro-batch more.
    encoded, rejected = encode_all(learner.objective, learner.encoder, share_of_rank(pairs(5), world_size, rank))
    assert not rejected
    learner.score_reference(encoded)
    assert learner.all_references().keys() == {pair.example_id for pair in pairs(5)}
    first, second = learner.step(encoded), learner.step(encoded)
    measured = [None] * world_size
    dist.all_gather_object(
        measured, [(one.example_id, one.loss_sum, one.num_tokens) for one in learner.row_losses(encoded)]
    )
    batches = learner._layout.batches(encoded)
    return {
        "gradients": gradients,
        "first": first.terms,
        "second": second.terms,
        "measured": sorted(one for of_rank in measured for one in of_rank),
        "whole_pairs": all(len(batch.rows) == 2 * len(batch.examples) for batch in batches),
    }


def distributions_of(case: dict, rank: int, world_size: int) -> dict[str, Any]:
    """Examples written to a part, read by id, encoded, learned for some steps."""
    import pyarrow.parquet as pq
    from probe_objectives import Distributions, distributions

    from bohdi_ray.examples.store import ExampleStore
    from bohdi_ray.run.run_dir import RunDir
    from bohdi_ray.training.objectives.objective import encode_all

    learner = learner_of(case, Distributions())
    run = RunDir(case["run"])
    rows = distributions(20, learner._engine.module.config.vocab_size)
    name = ExampleStore(run).write(0, 0, rows)
    read = ExampleStore(run).read([row.example_id for row in rows[::-5]])
    assert read == rows[::-5]
    encoded, rejected = encode_all(learner.objective, learner.encoder, read)
    assert not rejected
    return {
        "row_bytes": len(rows[0].support) + len(rows[0].probabilities),
        "groups": pq.ParquetFile(run.path(name)).num_row_groups,
        "losses": [learner.step(encoded).loss for _ in range(4)],
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
