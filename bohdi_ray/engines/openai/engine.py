"""RemoteEngine: a source behind any OpenAI-compatible server, with the interface of LLMEngine.

Owns the limit on concurrent requests, the retries, and the decision whether a failure is due to the request, which then
fails alone, or to the source. It has no weights to load and cannot score a given answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai import probes
from bohdi_ray.engines.openai.capabilities import LAST_ROOM, capabilities_of
from bohdi_ray.engines.openai.client import Reply, ServerClient
from bohdi_ray.engines.openai.constraints import WAYS, holds, kind_of
from bohdi_ray.engines.openai.fields import body_of, configured_room
from bohdi_ray.engines.openai.lessons import learn, next_way
from bohdi_ray.engines.openai.replies import AnswerFailed, Reading, read
from bohdi_ray.engines.openai.troubles import UNREACHABLE, Trouble, trouble_of
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.engines.vllm.slots import Slots
from bohdi_ray.engines.vllm.streaming import RunQueue, as_they_finish
from bohdi_ray.errors import EngineFailed, PromptTooLong, RemoteFailed, RequestRefused
from bohdi_ray.records import EngineReply, EngineRequest, GenerationRequest, ScoreRequest

LONGEST_DELAY_S = 60.0
LEAST_ROOM = 256  # for reasoning; a prompt that leaves less of the window is asked without
MOST_REFUSED = (
    8  # requests in a row, without an answer between them, after which it is asked whether the source is there
)


class RemoteEngine:
    """Methods run on one event loop; `start` first. `judges`: whether the run asks its sources for labels."""

    def __init__(self, model: OpenAIModel, first_delay_s: float = 1.0, judges: bool = True):
        self._model, self._judges = model, judges
        self._first_delay_s = first_delay_s
        self._client: ServerClient | None = None
        self._learned = capabilities_of(model.base_url, model.model)
        self._slots = Slots(model.max_in_flight)
        self._jitter = random.Random()  # spreads retries over time; decides nothing else
        self._num_in_flight = self._num_served = self._num_retries = 0
        self._num_prompt_tokens = self._num_decoded_tokens = 0
        self._born = self._idle_since = time.monotonic()
        self._idle_s = 0.0
        self._answered_at = -1.0  # time.monotonic() of the newest answer, whatever was in it
        self._num_refused = 0  # requests since then
        self._checking = asyncio.Lock()

    async def start(self) -> None:
        """Makes the client. Raises ConfigError for a key or a proxy that cannot be used; sends nothing."""
        self._client = ServerClient(self._model)

    async def ping(self) -> None:
        """Returns once the server has served the kinds of request that harvests send: an answer, a name and, if it
        judges, a label. Learns here what the server does not accept. Raises RemoteFailed, after as many retries as for
        any request."""
        for request in probes.requests(self._model, self._judges):
            try:
                reading = await self._send(request)
            except (PromptTooLong, RequestRefused) as error:
                raise self._failed(f"it refuses requests that every harvest sends ({request.role}): {error}") from error
            if reading.completion.error is not None:
                said = reading.completion.error
                raise self._failed(f"it refuses requests that every harvest sends ({request.role}): {said}")
            self._count(reading.completion)
            if notice := probes.problem(request, reading.completion):
                self._learned.note(request.request_id, f"{self._model.name}: {notice}")

    async def run(self, requests: Sequence[EngineRequest]) -> AsyncIterator[list[EngineReply]]:
        """Replies as they finish, as in LLMEngine.run. Raises RemoteFailed if the source is down."""
        if self._client is None:
            raise EngineFailed(f"remote source {self._model.name} was not started, or was stopped")
        queue: RunQueue = asyncio.Queue()
        async for ready in as_they_finish(queue, [self._answer(request) for request in requests]):
            yield ready

    async def load_weights(self, version: int, weights_dir: str) -> None:
        """A remote source has no weights of ours."""
        raise AssertionError("only the target is given weights, and a target is never remote")

    async def health(self) -> None:
        """A remote server's failures show up in its requests; there is nothing to watch."""
        if self._client is None:
            raise EngineFailed(f"remote source {self._model.name} was stopped")

    async def stats(self) -> EngineStats:
        """Counters since the start."""
        now = time.monotonic()
        return EngineStats(
            name=self._model.name,
            weights_version=0,
            num_in_flight=self._num_in_flight,
            num_served=self._num_served,
            num_prompt_tokens=self._num_prompt_tokens,
            num_decoded_tokens=self._num_decoded_tokens,
            idle_s=self._idle_s + (0.0 if self._num_in_flight else now - self._idle_since),
            uptime_s=now - self._born,
            num_retries=self._num_retries,
            learned=tuple(self._learned.notices.values()),
            **self._slots.stats(),
        )

    async def stop(self) -> None:
        """Closes the client."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _answer(self, request: EngineRequest) -> EngineReply:
        base = EngineReply(request.request_id, self._model.name, 0)
        if isinstance(request, ScoreRequest):
            return replace(base, error=RequestRefused(f"remote source {self._model.name} cannot score an answer"))
        async with self._slots.one():  # every clock of the request (timeout_s) starts in here
            if not self._num_in_flight:
                self._idle_s += time.monotonic() - self._idle_since
            self._num_in_flight += 1
            try:
                completion = (await self._send(request)).completion
            except (PromptTooLong, RequestRefused) as error:
                return replace(base, error=error)
            finally:
                self._num_in_flight -= 1
                self._idle_since = time.monotonic()
        self._num_served += 1
        self._count(completion)
        return completion

    def _count(self, completion: EngineReply) -> None:
        self._num_prompt_tokens += completion.num_prompt_tokens
        self._num_decoded_tokens += completion.num_tokens

    async def _send(self, request: GenerationRequest) -> Reading:
        """The answer, after as many retries as needed and allowed, in the format that the server accepts.

        Raises PromptTooLong and RequestRefused, which concern this request alone, and RemoteFailed. It terminates,
        because capabilities only shrink and failures are counted.
        """
        num_failures, wasted = 0, EngineReply("", "", 0)
        most_room: int | None = None  # for reasoning, where this prompt leaves less of the window than others
        while True:
            asked_at = time.monotonic()
            sent = body_of(request, self._model, self._learned, most_room)
            came = await self._ask(sent, request)
            if isinstance(came, Reading):
                came = replace(came, completion=_with_tokens_of(came.completion, wasted))
                if most_room is None and self._is_worth_another(came, request, sent):
                    wasted = came.completion
                    continue
                return self._settled(came, request)
            if sent != body_of(request, self._model, self._learned, most_room):
                continue  # others have learned meanwhile
            if self._teaches(came, sent, request):
                continue
            if came.kind == "too_long" and configured_room(request, self._model) is None:
                room = self._learned.room if most_room is None else most_room
                if room:
                    most_room = room // 2 if room > LEAST_ROOM else 0
                    continue
            if came.kind != "busy":
                await self._refused(came, asked_at)
            num_failures += 1
            if num_failures > self._model.max_retries:
                await self._given_up(came, num_failures, asked_at)
            self._num_retries += 1
            await asyncio.sleep(self._delay(num_failures, came))

    async def _ask(self, sent: dict[str, Any], request: GenerationRequest) -> Reading | Trouble:
        assert self._client is not None, "stopped with requests under way"
        reply = await self._client.ask(sent)
        if not isinstance(reply, Reply):
            return reply
        try:
            reading = read(reply.content, request, EngineReply(request.request_id, self._model.name, 0))
        except AnswerFailed as error:
            return Trouble(UNREACHABLE, str(error))
        except RemoteFailed as error:
            return Trouble(200, str(error))
        self._answered_at, self._num_refused = time.monotonic(), 0
        return reading

    def _is_worth_another(self, reading: Reading, request: GenerationRequest, sent: dict[str, Any]) -> bool:
        """Whether to send the request again, because the server's answer showed how to get a better one."""
        kind, done = kind_of(request), reading.completion
        if reading.starved:
            if configured_room(request, self._model) is not None:
                return False
            if sent != body_of(request, self._model, self._learned):
                return True
            if not self._learned.give_room():
                return False
            self._learned.note(
                "room",
                f"{self._model.name}: it reasons before it answers, and used up its tokens for that; "
                f"{self._learned.room} more tokens are requested from now on (set sampling.{request.role}"
                f".reasoning_max_tokens to say how many)",
            )
            return True
        constrained = kind is not None and done.error is None and done.finish_reason == "stop"
        constrained = constrained and bool(reading.written.strip())
        if constrained and not holds(request, reading.written) and self._learned.rungs.get(kind or "", 0) < len(WAYS):
            # The constraint was taken without a word, and not kept. The answer itself may still be read.
            if sent == body_of(request, self._model, self._learned):
                lesson = next_way(request, self._learned)
                self._learned.note(lesson.about, f"{self._model.name}: {lesson.text}")
            return request.request_id.startswith(probes.PREFIX)
        return False

    def _settled(self, reading: Reading, request: GenerationRequest) -> Reading:
        """The reading; if reasoning used up all tokens, it becomes an error that says what to do."""
        done = reading.completion
        if not reading.starved or done.text.strip():
            return reading
        room = configured_room(request, self._model)
        remedy = f"raise sampling.{request.role}.reasoning_max_tokens, or turn its reasoning off (chat_template_kwargs)"
        error = RequestRefused(
            f"{self._model.name} spent all its tokens on reasoning, with {LAST_ROOM if room is None else room} for it; "
            f"{remedy}"
        )
        return replace(reading, completion=replace(done, text="", finish_reason=None, error=error))

    def _teaches(self, trouble: Trouble, sent: dict[str, Any], request: GenerationRequest) -> bool:
        """Whether the error shows how the request should be sent."""
        if trouble.status in (401, 402, 429, 503, UNREACHABLE) or trouble.kind in ("flagged", "account"):
            return False
        if probes.ran_out(trouble.said) and configured_room(request, self._model) is None and self._learned.give_room():
            self._learned.note(
                "room", f"{self._model.name}: {self._learned.room} more tokens are requested for reasoning"
            )
            return True
        return learn(trouble, sent, request, self._learned, self._model.name)

    async def _refused(self, trouble: Trouble, asked_at: float) -> None:
        """Raises the error for a refusal: this request's, or the source's."""
        if trouble.kind == "too_long":
            raise PromptTooLong(self._model.name, said=str(trouble))
        if trouble.kind == "account":
            raise self._failed(f"{trouble}; check base_url, model and api_key")
        self._num_refused += 1
        unsure = trouble.kind == "refused" and trouble.status not in (0, 400, 422)
        if (unsure or self._num_refused > MOST_REFUSED) and (down := await self._is_down(asked_at)):
            raise self._failed(f"{trouble}; check base_url, model and api_key") from RemoteFailed(str(down))
        raise RequestRefused(f"{self._model.name} refused a request: {trouble}")

    async def _given_up(self, trouble: Trouble, num_failures: int, asked_at: float) -> None:
        """Raises the error after the last retry: the source is down, or it cannot serve this request."""
        if down := await self._is_down(asked_at):
            remedy = "see the server, or raise max_retries or timeout_s"
            raise self._failed(f"failed {num_failures} times, last: {down}; {remedy}")
        raise RequestRefused(f"{self._model.name} failed a request {num_failures} times, last: {trouble}")

    async def _is_down(self, since: float) -> Trouble | None:
        """Sends a plain short request and returns its error, or None if it succeeds. Sends nothing and returns None if
        the source has answered anything after `since`, because then only some requests fail."""
        async with self._checking:  # all that fail together ask once
            if self._answered_at >= since or self._client is None:
                return None
            request = probes.shortest(self._model)
            came = await self._client.ask(body_of(request, self._model, self._learned))
            if isinstance(came, Trouble):
                return came if came.kind in ("busy", "account", "refused") else None
            if not isinstance(came.content, dict):
                return trouble_of(200, "something other than a chat completion")
            self._answered_at, self._num_refused = time.monotonic(), 0
            return None

    def _failed(self, why: str) -> RemoteFailed:
        return RemoteFailed(f"{self._model.name} at {self._model.base_url}: {why}")

    def _delay(self, num_failures: int, trouble: Trouble) -> float:
        """Seconds until the next retry: doubles with every failure, with jitter, and is at least what the server asks
        for, up to a minute."""
        doubled = self._first_delay_s * 2 ** min(num_failures - 1, 10)
        wait = min(LONGEST_DELAY_S, doubled) * self._jitter.uniform(0.5, 1.5)
        return wait if trouble.asks_s is None else max(wait, min(LONGEST_DELAY_S, trouble.asks_s))


def _with_tokens_of(done: EngineReply, before: EngineReply) -> EngineReply:
    """The completion, with the tokens that earlier attempts used added."""
    return replace(
        done,
        num_prompt_tokens=done.num_prompt_tokens + before.num_prompt_tokens,
        num_tokens=done.num_tokens + before.num_tokens,
    )
