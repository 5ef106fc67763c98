"""The Ray task that evaluates a weights version during a run, by the target's own engines.

It sends its requests as harvest tasks do, through RoutedModels, and keeps no state: answers and scores are in the run
directory, so a task that runs again asks only for what is missing. It runs on the driver's node, where the preflight
has seen lm-eval and the tasks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import ray

from bohdi_ray.actors.routed_models import EngineClientConfig, RoutedModels
from bohdi_ray.config import FusionConfig
from bohdi_ray.engines.routing import RoutingTable
from bohdi_ray.engines.token_requests import TokenReply, TokenRequest
from bohdi_ray.errors import BohdiError
from bohdi_ray.evaluation.asking.answer_store import AnswerStore
from bohdi_ray.evaluation.asking.asker import Asker, Deliver
from bohdi_ray.evaluation.fingerprint import EVALUATIONS, answers_of, fingerprint
from bohdi_ray.evaluation.subjects import of_version, tokenizer_of, with_window
from bohdi_ray.randomness import generator
from bohdi_ray.run.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class VersionScores:
    """What an evaluation during a run found."""

    version: int
    scores: dict[str, float]  # by task, of its usual metric; those that are better when they are higher
    num_asked: int  # requests to engines
    num_tokens: int  # of prompts, and decoded

    @property
    def mean(self) -> float:
        """Over the tasks."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True, slots=True)
class RoutedEngines:
    """The target's engines of a run, `at_once` requests at a time."""

    table: RoutingTable
    client_config: EngineClientConfig
    seed: int
    at_once: int

    def ask(self, requests: Sequence[TokenRequest], deliver: Deliver) -> None:
        """As `asker.Engines`."""
        asyncio.run(self._ask(requests, deliver))

    async def _ask(self, requests: Sequence[TokenRequest], deliver: Deliver) -> None:
        models = RoutedModels(self.table, self.client_config, generator(self.seed, "evaluation", "routing"))
        room = asyncio.Semaphore(self.at_once)

        async def one(request: TokenRequest) -> None:
            async with room:
                reply = await models.ask(self.table.target, request)
            assert isinstance(reply, TokenReply)
            deliver([reply])

        try:
            await asyncio.gather(*(one(request) for request in requests))
        finally:
            await models.close()


@ray.remote(num_cpus=0.01, max_retries=3)
def evaluate_version(
    version: int, config: FusionConfig, run: RunDir, table: RoutingTable, client_config: EngineClientConfig
) -> VersionScores:
    """Evaluates the version that the target's engines serve, and writes RUN/evaluations/during/version-N.json."""
    from bohdi_ray.evaluation.comparing.report import lm_eval_json
    from bohdi_ray.evaluation.comparing.results import rows_of, usual_rows
    from bohdi_ray.evaluation.harness.language_model import EngineLM
    from bohdi_ray.evaluation.harness.run_tasks import run_tasks
    from bohdi_ray.evaluation.harness.tasks import load_tasks

    evaluate, subject = config.evaluate, with_window(of_version(run, config, version))
    tasks = load_tasks(evaluate.tasks)
    store = AnswerStore(answers_of(subject, fingerprint(subject)))
    num_engines = max(1, len(table.replicas.get(table.target, ())))
    at_once = 2 * config.target.engine.max_num_seqs * num_engines
    engines = RoutedEngines(table, client_config, config.seed, at_once)
    asker = Asker(engines, store, lambda done, total: None)
    lm = EngineLM(subject.name, tokenizer_of(subject), subject.window, asker, config.target.chat_template_kwargs)
    try:
        results = run_tasks(lm, tasks, evaluate.limit, evaluate.num_fewshot, evaluate.chat, None)
    finally:
        store.close()
    usual = usual_rows(rows_of({subject.name: results}, tasks.groups))
    scores = {row.task: row.cells[subject.name].value for row in usual.values() if row.higher_is_better}
    scores = {task: score for task, score in scores.items() if math.isfinite(score)}
    if not scores:
        raise BohdiError("none of the tasks of `evaluate` has a score that is better when it is higher")
    run.write_bytes(f"{EVALUATIONS}/during/version-{version}.json", lm_eval_json(results))
    counts = asker.counts
    return VersionScores(version, scores, counts.num_asked, counts.num_prompt_tokens + counts.num_decoded_tokens)
