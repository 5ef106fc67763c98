"""One request to a vLLM engine: from its text to token ids, and from vLLM's output to a Completion.

LLMEngine makes one `Answers` when its model is loaded and calls `answer` for every request. It decides what fails one
request alone (too long, refused) and leaves everything else to the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bohdi_ray.engines import vllm_api
from bohdi_ray.engines.chat import chat_shape, render_chat, special_tokens_of, strip_control_tokens
from bohdi_ray.engines.choices import first_token_choices, normalised_choices
from bohdi_ray.errors import PromptTooLong, RequestRefused
from bohdi_ray.records import Completion, EngineRequest, GenerationRequest, ScoreRequest

# Puts token ids with SamplingParams through vLLM and gives its RequestOutput.
Decode = Callable[[list[int], Any], Awaitable[Any]]


class Answers:
    """Answers requests of one model; `window` is its max_model_len in tokens."""

    def __init__(self, name: str, system_prompt: str | None, tokenizer: Any, window: int, decode: Decode):
        self._name = name
        self._system_prompt = system_prompt
        self._tokenizer = tokenizer
        self._window = window
        self._decode = decode
        self._special_tokens = special_tokens_of(tokenizer)
        self._shape = chat_shape(tokenizer)

    async def answer(self, request: EngineRequest, weights_version: int) -> Completion:
        """The completion; what concerns this request alone comes back in its `error`. Raises EngineFailed."""
        base = Completion(request.request_id, self._name, weights_version)
        try:
            if isinstance(request, ScoreRequest):
                return await self._score(request, base)
            return await self._generate(request, base)
        except (PromptTooLong, RequestRefused) as error:
            return replace(base, error=error)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids up to where the answer begins."""
        prompt = strip_control_tokens(prompt, self._special_tokens)
        return self._encode(render_chat(self._tokenizer, self._system_prompt, prompt, self._shape))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    async def _generate(self, request: GenerationRequest, base: Completion) -> Completion:
        token_ids = self.prompt_ids(request.prompt)
        room = self._window - len(token_ids)
        if room < 1:
            raise PromptTooLong(self._name, len(token_ids), self._window)
        sampling, max_tokens = request.sampling, request.sampling.max_tokens
        if request.choices is not None:
            # Enough for the longest choice however it is cut into tokens.
            max_tokens = max(len(choice.encode()) for choice in request.choices) + 1
        params = vllm_api.generation_params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(max_tokens, room),
            seed=sampling.seed,
            choices=request.choices,
            regex=request.regex,
        )
        output = await self._decode(token_ids, params)
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):  # the engine's own failures never get here
            raise RequestRefused(f"vLLM ended request {request.request_id} with reason {answer.finish_reason!r}")
        return replace(
            base,
            text=answer.text,
            num_prompt_tokens=len(token_ids),
            num_tokens=len(answer.token_ids),
            finish_reason=answer.finish_reason,
            choice_logprobs=await self._choice_logprobs(request, token_ids, output),
        )

    async def _choice_logprobs(
        self, request: GenerationRequest, ids: list[int], output: Any
    ) -> dict[str, float] | None:
        if request.choices is None:
            return None
        at_once = first_token_choices(vllm_api.first_token_logprobs(output, self._tokenizer), request.choices)
        if at_once is not None:
            return at_once
        # Choices that begin alike: read each one's own probability after the prompt.
        scores = await asyncio.gather(*(self._logprob_after(ids, self._encode(choice)) for choice in request.choices))
        return normalised_choices(dict(zip(request.choices, scores, strict=True)))

    async def _score(self, request: ScoreRequest, base: Completion) -> Completion:
        answer = strip_control_tokens(request.answer, self._special_tokens)
        prompt_ids, answer_ids = self.prompt_ids(request.prompt), self._encode(answer)
        logprob = await self._logprob_after(prompt_ids, answer_ids)
        return replace(
            base,
            num_prompt_tokens=len(prompt_ids) + len(answer_ids),
            finish_reason="stop",
            logprob=logprob,
            num_bytes=len(answer.encode()),
        )

    async def _logprob_after(self, prompt_ids: list[int], answer_ids: list[int]) -> float:
        if not answer_ids:
            return 0.0
        token_ids = prompt_ids + answer_ids
        if len(token_ids) + 1 > self._window:
            raise PromptTooLong(self._name, len(token_ids), self._window)
        output = await self._decode(token_ids, vllm_api.scoring_params())
        return sum(vllm_api.prompt_logprobs(output)[-len(answer_ids) :])
