"""`paper`: Bohdi as arXiv 2506.15721 and its published run have it."""

from __future__ import annotations

from typing import Any

from bohdi_ray.config.presets.preset import Preset

# What the paper (arXiv 2506.15721) and its published run give, by setting. Free mappings, such as DeepSpeed's, are one
# value: a user's replaces the whole. docs/fidelity.md says what no setting can give.
PAPER_SETTINGS: dict[str, Any] = {
    "tree.depth": 3,
    "sprout.proposals_per_source": 5,
    "sprout.max_failures": 10,
    "sprout.reuse_ballots": False,
    "sprout.vary_initials": False,
    "sprout.min_support": 0,
    "bandit.kind": "dynabranches",
    "bandit.window": 20,
    "bandit.introspection": True,
    "bandit.threshold": 0.2,
    "meditation.steps": 3,
    "meditation.walks_per_step": 30,
    "enlightenment.steps": 3,
    "enlightenment.rows_per_step": 60,
    "harvest.min_question_chars": 30,
    "harvest.min_answer_chars": 30,
    "harvest.length_unit": "characters",
    "harvest.question_attempts": 1,
    "harvest.heldout_fraction": 0.0,
    "harvest.max_staleness": 0,
    "harvest.step_lag": 0,
    "judge.kind": "leader",
    "judge.orders": 1,
    "training.learning_rate": 5e-6,
    "training.global_batch_size": 128,
    "training.micro_batch_size": 1,
    "training.max_length": 8192,
    "training.gradient_clipping": 1.0,
    "training.dtype": "bfloat16",
    "training.reset_optimizer": True,
    "training.rehearsal.share": 0.0,
    "training.deepspeed": {"zero_optimization": {"stage": 2}},
    "stop.rounds": 19,
}
PAPER_SOURCE: dict[str, Any] = {
    "temperature": 0.7,
    "sampling.sprout.top_p": 0.95,
    "sampling.question.top_p": 0.95,
    "sampling.answer.top_p": 0.8,
    "sampling.answer.max_tokens": 4096,
}
PAPER_TARGET: dict[str, Any] = {
    "temperature": 0.6,
    "sampling.answer.top_p": 0.8,
    "sampling.answer.max_tokens": 4096,
}


PAPER = Preset(
    PAPER_SETTINGS,
    PAPER_SOURCE,
    PAPER_TARGET,
    temperatures={"mistral-small": 0.15},
)
