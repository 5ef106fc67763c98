"""Objectives of tests under the product's learner: run as a program by test_objectives.py, with what to do as its
argument, `pairs` or `distributions`."""

from __future__ import annotations

from typing import Any

from probe_objectives import Distributions, Pairs, distributions, pairs
from training_support import encoded, learner_of, step_gradients, write_cases

from bohdi_ray.training.feed.steps import share_of_rank


def pairs_of(case: dict, rank: int, world_size: int) -> dict[str, Any]:
    """Two steps of one round: gradients of the first, the terms of both, and which pairs are wrong in the end."""
    import torch.distributed as dist

    learner = learner_of(case, Pairs())
    gradients = step_gradients(learner)
    # Five pairs: with two ranks one has a micro-batch more.
    examples = encoded(learner, share_of_rank(pairs(5), world_size, rank))
    learner.score_reference(examples)
    assert learner.all_references().keys() == {pair.example_id for pair in pairs(5)}
    first, second = learner.step(examples), learner.step(examples)
    measured = [None] * world_size
    dist.all_gather_object(
        measured, [(one.example_id, one.loss_sum, one.num_tokens) for one in learner.row_losses(examples)]
    )
    batches = learner._layout.batches(examples)
    return {
        "gradients": gradients[0],
        "first": first.terms,
        "second": second.terms,
        "measured": sorted(one for of_rank in measured for one in of_rank),
        "whole_pairs": all(len(batch.rows) == 2 * len(batch.examples) for batch in batches),
    }


def distributions_of(case: dict, rank: int, world_size: int) -> dict[str, Any]:
    """Examples written to a part, read by id, encoded, learned for some steps."""
    import pyarrow.parquet as pq

    from bohdi_ray.examples.store import ExampleStore
    from bohdi_ray.run.run_dir import RunDir

    learner = learner_of(case, Distributions())
    run = RunDir(case["run"])
    rows = distributions(20, learner._engine.module.config.vocab_size)
    name = ExampleStore(run).write(0, 0, rows)
    read = ExampleStore(run).read([row.example_id for row in rows[::-5]])
    assert read == rows[::-5]
    examples = encoded(learner, read)
    return {
        "row_bytes": len(rows[0].support) + len(rows[0].probabilities),
        "groups": pq.ParquetFile(run.path(name)).num_row_groups,
        "losses": [learner.step(examples).loss for _ in range(4)],
    }


def found_of(case: dict, rank: int, world_size: int, what: str) -> dict[str, Any]:
    return {"pairs": pairs_of, "distributions": distributions_of}[what](case, rank, world_size)


if __name__ == "__main__":
    write_cases(found_of)
