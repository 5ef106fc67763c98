"""Scripted models: engines that answer at once, as a pure function of model, prompt and seed.

`scripted_completion` is the core, for engine actors of integration tests too (about 10 microseconds a request).
`ScriptedModels` wraps it as the in-process `engines.models.Models`, with hooks to script or fail single requests.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from bohdi_ray.records import EngineReply, EngineRequest, GenerationRequest, ScoreRequest

# 32 x 32 words, and names of two of them: letters only, about a million different ones.
HEADS = tuple(a + b for a in "BDFGKLMN" for b in ("a", "e", "i", "o"))
TAILS = tuple(
    a + b for a in ("ran", "les", "vin", "tor", "mur", "dal", "pen", "sig") for b in ("a", "ics", "ology", "ry")
)
# The sources draw from this many names per prompt, the low numbers more often, so that elections have winners.
NAMES_PER_PROMPT = 24
QUESTION_WORDS = (
    "Why does",
    "How can",
    "When would",
    "In which way might",
    "To what extent does",
    "At what point does",
)


def _digest(*parts: object) -> int:
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest(), "little")


def _name(number: int) -> str:
    first, second = number % 1024, number // 1024 % 1024
    return f"{HEADS[first % 32]}{TAILS[first // 32]} {HEADS[second % 32]}{TAILS[second // 32]}"


def scripted_completion(model: str, weights_version: int, request: EngineRequest) -> EngineReply:
    """What `model` answers. The text depends on model, prompt and seed alone, never on the weights version."""
    if isinstance(request, ScoreRequest):
        num_bytes = len(request.answer.encode())
        per_byte = 0.2 + _digest(model, request.prompt, request.answer) % 997 / 997
        return EngineReply(
            request.request_id,
            model,
            weights_version,
            finish_reason="stop",
            logprob=-per_byte * num_bytes,
            num_bytes=num_bytes,
        )
    number = _digest(model, request.prompt, request.sampling.seed)
    if request.choices is not None:
        return _choice(model, weights_version, request, number)
    if request.role == "sprout":
        spread = (number % 1000 / 1000) ** 2
        text = _name(_digest(request.prompt, int(spread * NAMES_PER_PROMPT)))
    elif request.role == "question":
        one, other = _name(number // 6).lower(), _name(number // 7919).lower()
        text = f"{QUESTION_WORDS[number % 6]} {one} change {other} in practice?"
    else:
        one, other = _name(number).lower(), _name(number // 31).lower()
        text = f"It depends on {one}: {other} comes first, then the {number % 97} others."
    return EngineReply(
        request.request_id,
        model,
        weights_version,
        text=text,
        num_prompt_tokens=len(request.prompt) // 4 + 1,
        num_tokens=len(text) // 4 + 1,
        finish_reason="stop",
    )


def _choice(model: str, weights_version: int, request: GenerationRequest, number: int) -> EngineReply:
    assert request.choices is not None
    weights = [1 + (number >> 7 * i) % 101 for i in range(len(request.choices))]
    total = sum(weights)
    best = max(range(len(weights)), key=weights.__getitem__)
    return EngineReply(
        request.request_id,
        model,
        weights_version,
        text=request.choices[best],
        num_prompt_tokens=len(request.prompt) // 4 + 1,
        num_tokens=1,
        finish_reason="stop",
        choice_logprobs={c: math.log(w / total) for c, w in zip(request.choices, weights, strict=True)},
    )


@dataclass
class _Scripted:
    model: str | None
    role: str | None
    containing: str
    fields: dict[str, Any]


@dataclass
class ScriptedModels:
    """In-process `Models`. What no queued completion matches is answered by `scripted_completion`."""

    sources: tuple[str, ...] = ("alpha", "beta", "gamma")
    target: str = "student"
    weights_version: int = 0
    turns: Callable[[EngineRequest], int] = lambda request: 0  # turns of the event loop a request takes
    requests: list[tuple[str, EngineRequest]] = field(default_factory=list)  # (model, request), in order of arrival
    _queue: list[_Scripted] = field(default_factory=list)

    def queue_completion(
        self, *, model: str | None = None, role: str | None = None, containing: str = "", times: int = 1, **fields: Any
    ) -> None:
        """The next `times` requests that match are answered with `fields` of EngineReply instead.

        A `raises=` field is raised; `error=` makes an empty completion with that error.
        """
        self._queue += [_Scripted(model, role, containing, fields) for _ in range(times)]

    def queue_judgement(self, *, prefer: Callable[[str], float], model: str | None = None, times: int = 1) -> None:
        """The next `times` judge requests give each label the weight that `prefer` gives its answer's text."""
        self.queue_completion(model=model, role="judge", times=times, prefer=prefer)

    @property
    def num_unused(self) -> int:
        """Queued completions nobody asked for."""
        return len(self._queue)

    async def ask(self, model: str, request: EngineRequest) -> EngineReply:
        self.requests.append((model, request))
        scripted = self._take(model, request)
        for _ in range(self.turns(request)):
            await asyncio.sleep(0)
        version = self.weights_version if model == self.target else 0
        done = scripted_completion(model, version, request)
        if scripted is None:
            return done
        fields = dict(scripted.fields)
        if "raises" in fields:
            raise fields["raises"]
        if "error" in fields:
            return EngineReply(request.request_id, model, version, error=fields["error"])
        if prefer := fields.pop("prefer", None):
            weights = [prefer(text) for text in presented_answers(request.prompt)]
            labels = dict(zip("ABCDEFGHIJ", weights, strict=False))
            fields["choice_logprobs"] = {label: math.log(w / sum(weights)) for label, w in labels.items()}
            fields["text"] = max(labels, key=labels.__getitem__)
        return replace(done, **fields)

    def _take(self, model: str, request: EngineRequest) -> _Scripted | None:
        for i, one in enumerate(self._queue):
            if one.model in (None, model) and one.role in (None, request.role) and one.containing in request.prompt:
                return self._queue.pop(i)
        return None


def presented_answers(prompt: str) -> list[str]:
    """The answers in a judge's prompt made from the packaged template, first slot first."""
    blocks = re.findall(r"^\[text (\w+)\]\n(.*?)\n\[end \1\]$", prompt, re.S | re.M)
    return [text for _, text in blocks[1:]]
