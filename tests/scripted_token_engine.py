"""An engine for evaluations that answers at once, and what goes wrong in it. A process of its own imports this."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bohdi_ray.engines.token_requests import CompletionRequest, ContinuationRequest, TokenReply, TokenRequest
from bohdi_ray.engines.vllm.gate import Gate
from bohdi_ray.errors import ConfigError, EngineFailed

POISON = 13  # a context that begins with it ends the process


class ScriptedTokenEngine:
    """`folder` has the files that decide its faults: `die-N` ends the process after its N-th answer, once;
    `no-start` and `refused` fail every start; with `together` nobody answers before two are up. What is asked is
    noted in `asked`."""

    def __init__(self, folder: str):
        self._folder = Path(folder)
        self._num_answered = 0
        self._gate = Gate()

    async def start(self) -> None:
        if (self._folder / "no-start").exists():
            raise EngineFailed("scripted: no start")
        if (self._folder / "refused").exists():
            raise ConfigError("MODEL", "scripted", "is refused", "Mend it.")
        (self._folder / f"up-{os.getpid()}").touch()

    async def run(self, requests: Sequence[TokenRequest], alone: bool = False):
        async for ready in self._gate.through(self._answers(requests), alone):
            yield ready

    async def _answers(self, requests: Sequence[TokenRequest]):
        while (self._folder / "together").exists() and len(list(self._folder.glob("up-*"))) < 2:
            await asyncio.sleep(0.02)
        for request in requests:
            with open(self._folder / "asked", "a") as file:
                file.write(f"{os.getpid()} {request.request_id}\n")
            if request.context[0] == POISON:
                os._exit(1)
            await asyncio.sleep(0.002)
            yield [reply_to(request)]
            self._num_answered += 1
            for file in self._folder.glob(f"die-{self._num_answered}"):
                file.unlink()
                os._exit(1)

    async def stop(self) -> None:
        pass


def reply_to(request: TokenRequest) -> TokenReply:
    """A function of the request alone."""
    base = {"request_id": request.request_id, "model": "scripted", "weights_version": 0, "num_prompt_tokens": 1}
    if isinstance(request, ContinuationRequest):
        return TokenReply(**base, logprob=-float(sum(request.continuation)), greedy=False)
    if isinstance(request, CompletionRequest):
        return TokenReply(**base, token_ids=request.context[::-1], num_tokens=len(request.context))
    return TokenReply(**base, logprobs=tuple(-float(token) for token in request.candidates), most_likely=1)
