"""RemoteEngine: a source behind any OpenAI-compatible server, with the interface of LLMEngine.

Owns the client, the limit on requests sent at a time and the retries. The key is read from its reference where the
client is made and is never logged. It has no weights to load and cannot score a given answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.chat import chat_messages, strip_control_tokens
from bohdi_ray.engines.choices import labelled
from bohdi_ray.engines.slots import Slots
from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.engines.streaming import RunQueue, as_they_finish
from bohdi_ray.errors import ConfigError, EngineFailed, PromptTooLong, RemoteFailed, RequestRefused
from bohdi_ray.records import Completion, EngineRequest, GenerationRequest, SamplingSpec, ScoreRequest

log = logging.getLogger(__name__)

# The server's tokenizer is unknown; these are the control tokens of the common families.
CONTROL_TOKENS = (
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|im_sep|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
    ),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<|start|>", "<|message|>", "<|channel|>", "<|return|>"),
)
MAX_TOP_LOGPROBS = 20  # OpenAI's limit
# Fields that some servers do not take; one is left out once the server has refused it.
OPTIONAL = ("structured_outputs", "top_logprobs", "logprobs", "seed", "top_p", "max_tokens")
# What servers say of a prompt that does not fit. Asked first: such a message may name max_tokens too.
TOO_LONG = re.compile(
    r"context[ _](length|window|size)|max_model_len|maximum (input|prompt|model) length"
    r"|(prompt|input|message)s? (is |are )?too long|too many (input |prompt )?tokens",
    re.IGNORECASE,
)
# What they say of a field that they do not take, as against one whose value is wrong.
NOT_TAKEN = re.compile(
    r"unsupported|unrecogni[sz]ed|(not|n't) (be |currently |yet )?(support|permitted|allowed|recogni[sz]ed)"
    r"|(unknown|unexpected|extra)[ _](name|field|param|arg|key|propert|input|forbidden)|extra_forbidden",
    re.IGNORECASE,
)
LONGEST_DELAY_S = 60.0
MAX_MESSAGE = 2000  # characters of what a server says that are looked at


def resolve_secret(reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`. Raises ConfigError, which never repeats the secret."""
    kind, _, where = reference.partition(":")
    secret = os.environ.get(where) if kind == "env" else None
    if kind == "file":
        try:
            secret = Path(os.path.expandvars(where)).expanduser().read_text().strip()
        except OSError as error:
            raise ConfigError(
                "api_key", reference, f"the file cannot be read ({error.strerror})", "Make it."
            ) from error
    if not secret:
        remedy = "Set it where Ray's workers run, or use file:PATH on a path that they all see."
        raise ConfigError("api_key", reference, "the secret is empty or not set on this node", remedy)
    return secret


class RemoteEngine:
    """Methods run on one event loop; `start` first."""

    def __init__(self, model: OpenAIModel, first_delay_s: float = 1.0):
        self._model = model
        self._first_delay_s = first_delay_s
        self._client: Any = None
        self._refused: set[str] = set()
        self._folded = False
        self._slots = Slots(model.max_in_flight)
        self._jitter = random.Random()  # spreads retries over time; decides nothing else
        self._num_in_flight = self._num_served = self._num_retries = 0
        self._num_prompt_tokens = self._num_decoded_tokens = 0
        self._born = self._idle_since = time.monotonic()
        self._idle_s = 0.0

    async def start(self) -> None:
        """Makes the client. Raises ConfigError when the key is missing; sends nothing."""
        from openai import AsyncOpenAI

        key = resolve_secret(self._model.api_key) if self._model.api_key else "none"
        self._client = AsyncOpenAI(
            base_url=self._model.base_url, api_key=key, timeout=self._model.timeout_s, max_retries=0
        )

    async def ping(self) -> None:
        """Returns once the server has answered a request for one token. Raises RemoteFailed, after as many retries as
        for any other request."""
        sampling = SamplingSpec(temperature=0.0, top_p=1.0, max_tokens=1, seed=0)
        request = GenerationRequest("ping", "answer", "Say yes.", sampling)
        with contextlib.suppress(PromptTooLong, RequestRefused):  # a server that refuses this one request is there
            self._count(completion_of(await self._send(request), request, Completion("ping", self._model.name, 0)))

    async def run(self, requests: Sequence[EngineRequest]) -> AsyncIterator[list[Completion]]:
        """Completions as they finish, as LLMEngine.run. Raises RemoteFailed when retries are used up."""
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
            **self._slots.stats(),
        )

    async def stop(self) -> None:
        """Closes the client."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _answer(self, request: EngineRequest) -> Completion:
        base = Completion(request.request_id, self._model.name, 0)
        if isinstance(request, ScoreRequest):
            return replace(base, error=RequestRefused(f"remote source {self._model.name} cannot score an answer"))
        async with self._slots.one():  # every clock of the request (timeout_s) starts in here
            if not self._num_in_flight:
                self._idle_s += time.monotonic() - self._idle_since
            self._num_in_flight += 1
            try:
                reply = await self._send(request)
            except (PromptTooLong, RequestRefused) as error:
                return replace(base, error=error)
            finally:
                self._num_in_flight -= 1
                self._idle_since = time.monotonic()
        completion = completion_of(reply, request, base)
        self._num_served += 1
        self._count(completion)
        return completion

    def _count(self, completion: Completion) -> None:
        self._num_prompt_tokens += completion.num_prompt_tokens
        self._num_decoded_tokens += completion.num_tokens

    async def _send(self, request: GenerationRequest) -> Any:
        """The server's reply, after as many retries as it takes or may take."""
        import openai

        passing = (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError, openai.ConflictError)
        num_failures = 0
        while True:
            sent = self._fields(request)
            try:
                return await self._client.chat.completions.create(**sent)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if TOO_LONG.search(_said(error)):
                    raise PromptTooLong(self._model.name, said=_said(error)) from error
                # Each turn leaves out one more field, so this ends.
                if not self._adapt(sent, _said(error)):
                    raise RequestRefused(f"{self._model.name} refused a request: {_said(error)}") from error
            except passing as error:
                num_failures += 1
                if num_failures > self._model.max_retries:
                    raise RemoteFailed(
                        f"{self._model.name} at {self._model.base_url} failed {num_failures} times, "
                        f"last: {_said(error)}; see the server, or raise max_retries or timeout_s"
                    ) from error
                self._num_retries += 1
                await asyncio.sleep(self._delay(num_failures, error))
            except openai.OpenAIError as error:
                remedy = "check base_url, model and api_key"
                raise RemoteFailed(f"{self._model.name} at {self._model.base_url}: {_said(error)}; {remedy}") from error

    def _delay(self, num_failures: int, error: Any) -> float:
        """Doubles with every failure, with jitter; never less than the server asks for."""
        wait = min(LONGEST_DELAY_S, self._first_delay_s * 2 ** (num_failures - 1)) * self._jitter.uniform(0.5, 1.5)
        response = getattr(error, "response", None)  # connection errors have none
        asked = response.headers.get("retry-after", "") if response is not None else ""
        return max(wait, min(LONGEST_DELAY_S, float(asked))) if re.fullmatch(r"\d+(\.\d+)?", asked) else wait

    def _fields(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        system = self._model.system_prompt
        fields: dict[str, Any] = {
            "model": self._model.model,
            "messages": chat_messages(system, strip_control_tokens(request.prompt, CONTROL_TOKENS), self._folded),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "max_tokens": sampling.max_tokens,
        }
        structure: dict[str, Any] = {}
        if request.choices is not None:
            structure = {"choice": list(request.choices)}
            fields |= {"logprobs": True, "top_logprobs": MAX_TOP_LOGPROBS}
        elif request.regex is not None:
            structure = {"regex": request.regex}
        if "max_tokens" in self._refused:
            fields["max_completion_tokens"] = fields.pop("max_tokens")
        if "logprobs" in self._refused:
            fields.pop("top_logprobs", None)
        for name in self._refused:
            fields.pop(name, None)
        if structure and "structured_outputs" not in self._refused:
            fields["extra_body"] = {"structured_outputs": structure}
        return fields

    def _adapt(self, sent: dict[str, Any], message: str) -> bool:
        """Learns from a refusal what this server does not take; False when the request itself is at fault.

        What counts is what this request was sent with: others may have taught us the same meanwhile.
        """
        if sent["messages"][0]["role"] == "system" and re.search(r"system\b.*\brole|role.*\bsystem", message, re.I):
            self._folded = True
            return True
        if not NOT_TAKEN.search(message):
            return False
        for name in OPTIONAL:
            named = re.search(rf"(?<!\w){name}(?!\w)", message)
            if named and (name in sent or name in sent.get("extra_body", {})):
                log.info("%s does not take %s; it is left out from now on", self._model.name, name)
                self._refused.add(name)
                return True
        return False


def _said(error: Exception) -> str:
    """What a server or the client says, a page of it at most: it is searched, told and logged."""
    return str(error)[:MAX_MESSAGE]


def completion_of(reply: Any, request: GenerationRequest, base: Completion) -> Completion:
    """A Completion from a chat completion object of the client. An answer that was withheld is none."""
    if not hasattr(reply, "choices"):  # a page, which the client hands on as text
        raise RemoteFailed(f"{base.model} answered with something else than a chat completion; check its base_url")
    if reply.usage:
        counts = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
        num_prompt_tokens, num_tokens = (n if isinstance(n, int) and 0 <= n < 2**53 else 0 for n in counts)
        base = replace(base, num_prompt_tokens=num_prompt_tokens, num_tokens=num_tokens)
    if not reply.choices:
        return replace(base, error=RequestRefused("the server's reply holds no answer"))
    answer = reply.choices[0]
    if answer.finish_reason not in ("stop", "length"):  # content_filter, tool_calls, ...
        return replace(base, error=RequestRefused(f"{base.model} ended its answer with {answer.finish_reason!r}"))
    content = answer.message.content if answer.message else None
    text = content if isinstance(content, str) else ""
    choice_logprobs = None
    if request.choices is not None:
        text, choice_logprobs = labelled(text, first_alternatives(answer), request.choices)
    return replace(
        base,
        text=text,
        finish_reason="length" if answer.finish_reason == "length" and choice_logprobs is None else "stop",
        choice_logprobs=choice_logprobs,
    )


def first_alternatives(answer: Any) -> list[tuple[str, float]]:
    """Text and log-probability of the alternatives at the first position; empty when the server gave none."""
    if answer.logprobs is None or not answer.logprobs.content:
        return []
    first = answer.logprobs.content[0]
    entries = [(entry.token, entry.logprob) for entry in first.top_logprobs or [first]]
    return [(text, value) for text, value in entries if isinstance(text, str) and isinstance(value, int | float)]
