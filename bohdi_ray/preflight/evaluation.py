"""Checks what a run is to be evaluated on: that lm-eval is there, and every task with its data. Part of the
preflight."""

from __future__ import annotations

from importlib.util import find_spec

from bohdi_ray.config import EvaluateConfig
from bohdi_ray.errors import ConfigError, ConfigErrors


def evaluation_errors(evaluate: EvaluateConfig) -> list[ConfigError]:
    """One for each task that cannot be run."""
    if not evaluate.every:
        return []
    if find_spec("lm_eval") is None:
        rule = "needs lm-eval, which is not installed"
        remedy = "Install the extra: pip install 'bohdi_ray[eval]'."
        return [ConfigError("evaluate.every", evaluate.every, rule, remedy)]
    from bohdi_ray.evaluation.harness.tasks import load_tasks  # seconds of imports

    try:
        load_tasks(evaluate.tasks, field="evaluate.tasks")
    except ConfigErrors as errors:
        return list(errors.errors)
    except ConfigError as error:
        return [error]
    return []
