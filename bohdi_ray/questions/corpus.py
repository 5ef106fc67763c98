"""The prompt of a row: of the leaf's rows the one whose turn it is; a source is drawn as the leader, for the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.engines.models import Models
from bohdi_ray.questions.rows.index import RowAddress
from bohdi_ray.questions.rows.stored import reader_of
from bohdi_ray.questions.source import Question
from bohdi_ray.records import Ticket, is_rehearsal

if TYPE_CHECKING:
    from bohdi_ray.harvest.plan import HarvestPlan


async def question(
    ticket: Ticket, models: Models, plan: HarvestPlan, rng: Callable[[str], np.random.Generator]
) -> Question:
    """The row of the ticket's place; for rehearsal one drawn from all of the leaf's. Raises RowUnreadable, RunDirError
    and StorageFailed."""
    section, config = plan.config.questions, plan.config
    assert isinstance(section, CorpusQuestions)

    def read() -> tuple[RowAddress, str]:
        reader, index = reader_of(section, config.run_dir)
        drawn = int(rng("row").integers(index.num_rows_of(ticket.path))) if is_rehearsal(ticket) else ticket.place
        address = index.address(ticket.path, drawn, config.seed)
        return address, reader.prompt(address)

    address, text = await asyncio.to_thread(read)
    leader = models.sources[int(rng("leader").integers(len(models.sources)))]
    return Question(leader, "", text, document=f"{address.document:016x}", epoch=address.epoch)
