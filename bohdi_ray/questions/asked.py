"""A leader among the sources and a style are drawn, and the leader writes the question: the paper's way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bohdi_ray.engines.chat.reasoning import reasoning_problem, without_reasoning
from bohdi_ray.engines.models import Models, error_name
from bohdi_ray.engines.prompts import clean_text, parse_question
from bohdi_ray.engines.quality import question_problem
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.questions.source import Question
from bohdi_ray.records import Ticket

if TYPE_CHECKING:
    from bohdi_ray.harvest.plan import HarvestPlan


async def question(
    ticket: Ticket, models: Models, plan: HarvestPlan, rng: Callable[[str], np.random.Generator]
) -> Question:
    """A valid question, within the configured attempts."""
    config = plan.config.harvest
    leader = models.sources[int(rng("leader").integers(len(models.sources)))]
    style = config.styles[int(rng("style").integers(len(config.styles)))]
    prompt = plan.templates.render_question(ticket.path, style)
    counts, num_tokens, refused = Counter[str](), 0, list[str]()

    def question_of(**fields: Any) -> Question:
        return Question(leader, style, num_tokens=num_tokens, counts=counts, refused=tuple(refused), **fields)

    for attempt in range(config.question_attempts):
        counts["question_retries"] += attempt > 0
        counts["question_requests"] += 1
        try:
            done = await models.ask(leader, plan.request(ticket, "question", leader, prompt, attempt))
        except RequestQuarantined as error:
            return question_of(failure="request_quarantined", quarantined=error.part)
        num_tokens += done.num_tokens
        done = without_reasoning(done)
        if done.error is not None:
            # The prompt is the same at every attempt, and so would be the error.
            name = error_name(done.error)
            counts[f"question_rejected:{name}"] += 1
            too_long = name == "prompt_too_long"
            return question_of(failure="question_prompt_too_long" if too_long else "question_request_failed")
        text = parse_question(done.text)
        problem = reasoning_problem(done) or question_problem(
            text, done.finish_reason, config.min_question_chars, config.length_unit
        )
        if problem is None:
            return question_of(text=text, reasoning=clean_text(done.reasoning))
        counts[f"question_rejected:{problem}"] += 1
        refused.append(problem)
    return question_of(failure="invalid_question")
