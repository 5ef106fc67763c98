"""Runs lm-eval's tasks with one model. Imports lm-eval (extra `eval`)."""

from __future__ import annotations

from typing import Any

from lm_eval import simple_evaluate

from bohdi_ray.errors import ConfigError
from bohdi_ray.evaluation.harness.language_model import EngineLM
from bohdi_ray.evaluation.harness.quiet import quiet
from bohdi_ray.evaluation.harness.tasks import Tasks

BOOTSTRAP = 1000  # resamples of lm-eval's own standard errors, where a metric has no closed form


def run_tasks(
    lm: EngineLM, tasks: Tasks, limit: int | None, num_fewshot: int | None, chat: bool, system: str | None
) -> dict[str, Any]:
    """lm-eval's own results with every sample; the few-shot examples are drawn by its own seeds."""
    try:
        with quiet():
            return simple_evaluate(
                model=lm,
                tasks=list(tasks.objects),
                task_manager=tasks.manager,
                num_fewshot=num_fewshot,
                limit=limit,
                bootstrap_iters=BOOTSTRAP,
                apply_chat_template=chat,
                system_instruction=system,
                fewshot_as_multiturn=chat,
                confirm_run_unsafe_code=True,  # tasks that run code were refused as they were loaded, or allowed
            )
    except ValueError as error:
        if "fewshot" in str(error) or "few-shot" in str(error):
            raise ConfigError("--num-fewshot", str(num_fewshot), str(error), "Ask for fewer examples.") from error
        raise
