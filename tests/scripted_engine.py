"""The engine of a scripted fusion, and what goes wrong in it.

Apart from `scripted_parts.py`, for each engine is a process of its own, which imports this module and nothing that it
does not need: starting processes is most of what these tests take.
"""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fakes import scripted_completion
from shared_card import SharedCard

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.engines.vllm.gate import Gate
from bohdi_ray.errors import EngineFailed, RemoteFailed, WeightsMismatch
from bohdi_ray.records import EngineReply, EngineRequest

VERSION = "version"  # the file in a weights folder that scripted engines read


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how often. A fault is a file that strikes once, in whichever process finds it first.

    Known: start-MODEL, load-MODEL, dead-MODEL (raise, the last one from the middle of a call), die-MODEL (ends the
    process in the middle of a call), slip-MODEL (answers with other weights), hang-MODEL (a call gives no sign of life
    any more), late-MODEL, oom-MODEL (a start that never ends, one that ends the process), ping-MODEL, refuse-MODEL (no
    server can be reached, in a ping or in a call), sleepless-MODEL, oversleep-MODEL, die-asleep-MODEL (never falls
    asleep, never wakes up, ends its process in its sleep), train (raises), stall (the trainer stops moving). Poison
    lasts: all engines of the model die of it. What is kept lasts until it is mended: mute-MODEL
    (every answer is empty), junk-MODEL (none is of any use), reject (the trainer finds no row that it can learn from).
    """

    folder: str

    def arm(self, fault: str, times: int = 1) -> None:
        os.makedirs(self.folder, exist_ok=True)
        for i in range(times):
            with open(os.path.join(self.folder, f"{fault}.{i}"), "w"):
                pass

    def keep(self, fault: str) -> None:
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, f"keeps-{fault}"), "w"):
            pass

    def mend(self, fault: str) -> None:
        os.remove(os.path.join(self.folder, f"keeps-{fault}"))

    def lasts(self, fault: str) -> bool:
        return os.path.exists(os.path.join(self.folder, f"keeps-{fault}"))

    def poison(self, model: str, text: str) -> None:
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, f"poison-{model}")
        with open(f"{path}.writing", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.writing", path)

    def is_poison(self, model: str, requests: Sequence[EngineRequest]) -> bool:
        try:
            with open(os.path.join(self.folder, f"poison-{model}"), encoding="utf-8") as file:
                poison = file.read()
        except FileNotFoundError:
            return False
        return any(poison in request.prompt for request in requests)

    def strikes(self, fault: str) -> bool:
        if not os.path.isdir(self.folder):
            return False
        for path in glob.glob(os.path.join(self.folder, f"{fault}.*")):
            try:
                os.remove(path)
            except FileNotFoundError:
                continue
            return True
        return False


NO_FAULTS = Faults("/nonexistent")


class ScriptedEngineActor:
    """Answers like `fakes.scripted_completion`, each request after `answer_s`; on `card` where there is one."""

    def __init__(
        self, model: str, weights_version: int, answer_s: float, faults: Faults, card: SharedCard | None = None
    ):
        self._card, self._on_card = card, f"{model}-{os.getpid()}"
        self._model, self._weights_version, self._answer_s, self._faults = model, weights_version, answer_s, faults
        self._gate = Gate()
        self._num_served = self._num_prompt_tokens = self._num_decoded_tokens = 0

    async def start(self) -> None:
        if self._faults.strikes(f"start-{self._model}"):
            raise EngineFailed("scripted: no start")
        if self._faults.strikes(f"oom-{self._model}"):
            os._exit(137)
        if self._faults.strikes(f"late-{self._model}"):
            await asyncio.Event().wait()
        self._enter()

    def _enter(self) -> None:
        if self._card:
            self._card.enter("engine", self._on_card)

    async def sleep(self) -> None:
        if self._faults.strikes(f"sleepless-{self._model}"):
            await asyncio.Event().wait()
        if self._card:
            self._card.leave("engine", self._on_card)
        if self._faults.strikes(f"die-asleep-{self._model}"):
            asyncio.get_running_loop().call_later(0.5, os._exit, 1)

    async def wake(self) -> None:
        if self._faults.strikes(f"oversleep-{self._model}"):
            await asyncio.Event().wait()
        self._enter()

    async def ping(self) -> None:
        if self._faults.strikes(f"ping-{self._model}"):
            raise RemoteFailed("scripted: connection refused")

    async def run(self, requests: Sequence[EngineRequest], alone: bool = False):
        async for ready in self._gate.through(self._answers(requests), alone):
            yield ready

    async def _answers(self, requests: Sequence[EngineRequest]):
        if self._answer_s:
            await asyncio.sleep(self._answer_s)
        if self._card:
            self._card.use("engine", self._on_card)
        if self._faults.strikes(f"hang-{self._model}"):
            await asyncio.Event().wait()
        if self._faults.strikes(f"refuse-{self._model}"):
            raise RemoteFailed("scripted: connection refused")
        if self._faults.is_poison(self._model, requests):
            os._exit(1)
        version = self._weights_version + self._faults.strikes(f"slip-{self._model}")
        answers: list[EngineReply] = [scripted_completion(self._model, version, r) for r in requests]
        for fault, text in (("mute", ""), ("junk", "?! 123")):
            if self._faults.lasts(f"{fault}-{self._model}"):
                answers = [replace(answer, text=text) for answer in answers]
        if self._faults.strikes(f"die-{self._model}"):
            yield answers[: len(answers) // 2]
            os._exit(1)
        if self._faults.strikes(f"dead-{self._model}"):
            yield answers[: len(answers) // 2]
            raise EngineFailed("scripted: the engine is dead, its actor is not")
        self._num_served += len(requests)
        self._num_prompt_tokens += sum(answer.num_prompt_tokens for answer in answers)
        self._num_decoded_tokens += sum(answer.num_tokens for answer in answers)
        yield answers

    async def load_weights(self, version: int, weights_dir: str) -> dict[str, Any]:
        from bohdi_ray.run.node_files import plain_weights

        with plain_weights(weights_dir) as folder, open(os.path.join(folder, VERSION), encoding="utf-8") as file:
            assert int(file.read()) == version, weights_dir
        if self._faults.strikes(f"load-{self._model}"):
            raise WeightsMismatch("scripted: these are not the weights asked for")
        self._weights_version = version
        return {"version": version}

    async def health(self) -> None:
        return

    async def stats(self) -> EngineStats:
        counts = (0, self._num_served, self._num_prompt_tokens, self._num_decoded_tokens)
        return EngineStats(self._model, self._weights_version, *counts, idle_s=0.0, uptime_s=1.0)

    async def retire(self) -> None:
        await self._gate.close()

    async def stop(self) -> None:
        return
