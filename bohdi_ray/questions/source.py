"""The interface of a question source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from bohdi_ray.engines.chat.turns import shown
from bohdi_ray.engines.models import Models
from bohdi_ray.records import Ticket, is_heldout, question_hash

if TYPE_CHECKING:
    from bohdi_ray.harvest.plan import HarvestPlan

QuestionFailure = Literal[
    "invalid_question", "question_prompt_too_long", "question_request_failed", "request_quarantined"
]


@dataclass(frozen=True, slots=True)
class Question:
    """A ticket's question, or the reason why there is none, and its cost in either case."""

    leader: str  # the source that asks, and judges where a leader does
    style: str
    text: str = ""  # or a conversation, as engines/chat/turns.py writes it
    reasoning: str = ""  # what the leader wrote before it
    failure: QuestionFailure | None = None
    quarantined: str | None = None  # of a request that engines died of: its part in RUN/quarantine
    num_tokens: int = 0  # decoded by the leader
    counts: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()  # why texts of the leader were no question, one reason each
    document: str = ""  # hexadecimal hash by which it is held out or not; "": that of the text
    epoch: int = 0  # how often the source had given all of its questions before

    @property
    def hash(self) -> str:
        """What a leaf knows it by: in another epoch it is another question."""
        text = shown(self.text)
        return question_hash(f"{self.epoch} {text}" if self.epoch else text)

    def is_heldout(self, fraction: float) -> bool:
        return is_heldout(self.document or question_hash(self.text), fraction)


class QuestionSource(Protocol):
    async def __call__(
        self, ticket: Ticket, models: Models, plan: HarvestPlan, rng: Callable[[str], np.random.Generator]
    ) -> Question:
        """The question of `ticket`. It may fail only because of its content; `models` raises engine failures.

        Whatever is drawn comes from `rng`, which gives the ticket's generator of each purpose, and the seed of every
        request from the ticket (`plan.request`): asked again, a source gives the same question.
        """
        ...
