"""Gradients of one global step, computed by several ranks: run as a program by test_training_gradients.py.

A case has "rows", a count, and with "before" also a step before the one that counts, behind which the learner leaves
its card for a while if "before" is "turn". Found are loss, gradient norm, gradients.
"""

from __future__ import annotations

from typing import Any

from training_support import encoded, learner_of, some_rows, step_gradients, write_cases

from bohdi_ray.training.feed.steps import share_of_rank


def gradients_of(case: dict, rank: int, world_size: int) -> dict[str, Any]:
    learner = learner_of(case)
    rows = share_of_rank(some_rows(0, case["rows"]), world_size, rank)
    if before := case.get("before"):
        learner.step(encoded(learner, rows))
        if before == "turn":
            learner.leave_card()
            assert learner._engine.optimizer.offloaded_states
            learner.enter_card()
    gradients = step_gradients(learner)
    result = learner.step(encoded(learner, rows))
    assert learner.packing == case["config"]["training"]["packing"]
    return {"loss": result.loss, "grad_norm": result.grad_norm, "gradients": gradients[0]}


if __name__ == "__main__":
    write_cases(gradients_of)
