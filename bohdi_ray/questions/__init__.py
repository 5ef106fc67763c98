"""Where a ticket's question comes from. Called by `harvest/`, for samples and for rehearsal.

One module for each kind of question source in the configuration, whose `question` is a `source.QuestionSource`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bohdi_ray.config import QUESTIONS
from bohdi_ray.config.kinds.by_kind import modules_of
from bohdi_ray.engines.models import Models
from bohdi_ray.questions.source import Question, QuestionSource
from bohdi_ray.randomness import generator
from bohdi_ray.records import Ticket

if TYPE_CHECKING:
    from bohdi_ray.harvest.plan import HarvestPlan

SOURCE_OF: dict[str, QuestionSource] = modules_of(QUESTIONS, __name__, "question")


async def question_for(ticket: Ticket, models: Models, plan: HarvestPlan) -> Question:
    """The ticket's question, from the run's question source. Raises SourceLeftOut."""
    rng = partial(generator, plan.config.seed, ticket.round, ticket.step, ticket.index)
    return await SOURCE_OF[plan.config.questions.kind](ticket, models, plan, rng)
