"""The engines of runs in which processes die. Apart from the rest, as `scripted_engine.py` is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from points import reached_async
from scripted_engine import NO_FAULTS, ScriptedEngineActor

from bohdi_ray.records import EngineReply, EngineRequest

SHORT_QUESTIONS = 4  # one of so many; a leader has two tries
PHASE_OF_ROLE = {"sprout": "sprouting", "question": "asking", "answer": "answering", "judge": "judging"}


class StormEngine(ScriptedEngineActor):
    """Some of its questions are too short to be asked, so that tickets fail, too: always the same ones."""

    async def _answers(self, requests: Sequence[EngineRequest]):
        async for answers in super()._answers(requests):
            yield [self._spoilt(request, answers) for request in requests]

    def _spoilt(self, request: EngineRequest, answers: Sequence[EngineReply]) -> EngineReply:
        answer = next(answer for answer in answers if answer.request_id == request.request_id)
        short = request.role == "question" and crc32(answer.text.encode()) % SHORT_QUESTIONS == 0
        return dataclasses.replace(answer, text="Why?") if short else answer


class PointedEngine(StormEngine):
    def __init__(self, model: str, weights_version: int, run_dir: str):
        super().__init__(model, weights_version, 0.0, NO_FAULTS)
        self._run_dir = run_dir

    async def start(self) -> None:
        if self._model == "target":
            await reached_async("idle", self._run_dir)
        await super().start()

    async def _answers(self, requests: Sequence[EngineRequest]):
        for role in sorted({request.role for request in requests}):
            await reached_async(PHASE_OF_ROLE[role], self._run_dir)
        async for answers in super()._answers(requests):
            yield answers

    async def load_weights(self, version: int, weights_dir: str) -> dict[str, Any]:
        await reached_async("loading", self._run_dir)
        return await super().load_weights(version, weights_dir)
