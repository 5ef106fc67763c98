"""Gradients of one global step, computed by several ranks: run as a program by test_training_gradients.py.

    training_ranks.py RANK WORLD_SIZE PORT CASES_JSON OUT
CASES_JSON: list of {"base": ..., "config": ..., "rows": count}, with "before" also a step before the one that counts,
behind which the learner leaves its card for a while if "before" is "turn". Rank 0 writes per case: loss, gradient norm,
gradients.
"""

from __future__ import annotations

import json
import os
import sys


def main(rank: int, world_size: int, port: str, cases_file: str, out: str) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank)
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    from deepspeed.utils import safe_get_full_grad
    from training_support import encoded, some_rows

    from bohdi_ray.config import FusionConfig
    from bohdi_ray.training.feed.steps import share_of_rank
    from bohdi_ray.training.learner import Learner

    with open(cases_file, encoding="utf-8") as file:
        cases = json.load(file)
    results = []
    for case in cases:
        config = FusionConfig.model_validate(case["config"])
        learner = Learner(config, os.path.join(case["base"], "weights"), case["base"], "cpu")
        engine, gradients = learner._engine, {}
        apply_step = engine.step

        def step(engine=engine, gradients=gradients, apply_step=apply_step):
            for name, parameter in engine.module.named_parameters():
                gradients[name] = safe_get_full_grad(parameter).float().clone()
            apply_step()

        engine.step = step
        rows = share_of_rank(some_rows(0, case["rows"]), world_size, rank)
        if before := case.get("before"):
            learner.step(encoded(learner, rows))
            if before == "turn":
                learner.leave_card()
                assert engine.optimizer.offloaded_states
                learner.enter_card()
        result = learner.step(encoded(learner, rows))
        results.append({"loss": result.loss, "grad_norm": result.grad_norm, "gradients": gradients})
        assert learner.packing == config.training.packing
    if rank == 0:
        torch.save(results, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5])
