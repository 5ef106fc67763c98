"""Counts the requests to each source in one piece of harvest work: how many were sent, and how many failed and why.

A harvest's own counts say how many requests of a role failed; these say at which source. Request errors and unreadable
labels are counted here as answers arrive; harvest.py counts answers that the quality gates reject. The target is not
counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bohdi_ray.engines.models import Models, error_name
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.judges.judging import label_logprobs
from bohdi_ray.records import EngineReply, EngineRequest, GenerationRequest, SourceCounts

MAX_SAID = 400  # characters of an error that are kept


@dataclass(slots=True)
class SourceNotes:
    """Counts by (source, role) and by (source, "role:reason"), and the newest error of each source in words."""

    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)

    def lose(self, source: str, role: str, reason: str, said: str = "") -> None:
        """Counts a request that failed."""
        self.lost[source, f"{role}:{reason}"] += 1
        if said:
            self.said[source] = said[:MAX_SAID]

    def tallies(self) -> dict[str, SourceCounts]:
        """The counts by source."""
        return {
            source: SourceCounts(
                asked={role: n for (name, role), n in self.asked.items() if name == source},
                lost={reason: n for (name, reason), n in self.lost.items() if name == source},
                said=self.said.get(source, ""),
            )
            for source in dict.fromkeys(source for source, _ in self.asked)
        }


class NotedModels:
    """`Models` that counts every request to a source."""

    def __init__(self, models: Models, notes: SourceNotes):
        self._models, self._notes = models, notes

    @property
    def sources(self) -> tuple[str, ...]:
        return self._models.sources

    @property
    def target(self) -> str:
        return self._models.target

    async def ask(self, model: str, request: EngineRequest) -> EngineReply:
        try:
            done = await self._models.ask(model, request)
        except RequestQuarantined as error:
            self._note(model, request, "request_quarantined", str(error))
            raise
        if done.error is not None:
            self._note(model, request, error_name(done.error), str(done.error))
        else:
            self._note(model, request, _problem(request, done))
        return done

    def _note(self, model: str, request: EngineRequest, problem: str | None, said: str = "") -> None:
        if model == self.target:
            return
        self._notes.asked[model, request.role] += 1
        if problem is not None:
            self._notes.lose(model, request.role, problem, said)


def _problem(request: EngineRequest, done: EngineReply) -> str | None:
    """Why an answer without an error is of no use; None also for what only the quality gates can tell."""
    if not isinstance(request, GenerationRequest):
        return None
    if request.role == "sprout" and not done.text.strip():
        return "empty"
    unreadable = request.choices is not None and label_logprobs(done, len(request.choices)) is None
    return "unreadable" if unreadable else None
