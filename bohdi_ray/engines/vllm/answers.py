"""Answers one request with a vLLM engine: from its text to token ids, and from vLLM's output to an EngineReply.

LLMEngine makes one `Answers` when its model is loaded and calls `answer` for every request. It decides what fails one
request alone (too long, refused) and leaves everything else to the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bohdi_ray.engines.chat.reasoning import split_reasoning
from bohdi_ray.engines.chat.rendering import chat_shape, render_chat, special_tokens_of, strip_control_tokens
from bohdi_ray.engines.chat.style import ChatStyle, ChatStyles, closing, opening, plain_styles
from bohdi_ray.engines.chat.turns import with_texts
from bohdi_ray.engines.vllm import api
from bohdi_ray.engines.vllm.choices import first_token_choices, normalised_choices
from bohdi_ray.engines.vllm.params import generation_params, scoring_params
from bohdi_ray.errors import PromptTooLong, RequestRefused
from bohdi_ray.records import EngineReply, EngineRequest, GenerationRequest, ScoreRequest

# Puts token ids with SamplingParams through vLLM and gives its RequestOutput.
Decode = Callable[[list[int], Any], Awaitable[Any]]


class Answers:
    """Answers requests of one model; `window` is its max_model_len in tokens, `styles` say how it is asked by role."""

    def __init__(
        self,
        name: str,
        system_prompt: str | None,
        tokenizer: Any,
        window: int,
        decode: Decode,
        styles: ChatStyles | None = None,
    ):
        self._name = name
        self._system_prompt = system_prompt
        self._tokenizer = tokenizer
        self._window = window
        self._decode = decode
        self._styles = styles or plain_styles(name, tokenizer)
        self._special_tokens = special_tokens_of(tokenizer)
        self._shape = chat_shape(tokenizer)

    async def answer(self, request: EngineRequest, weights_version: int) -> EngineReply:
        """The completion; an error that concerns this request alone is in its `error`. Raises EngineFailed."""
        base = EngineReply(request.request_id, self._name, weights_version)
        try:
            if isinstance(request, ScoreRequest):
                return await self._score(request, base)
            return await self._generate(request, base)
        except (PromptTooLong, RequestRefused) as error:
            return replace(base, error=error)

    def prompt_ids(self, prompt: str, style: ChatStyle | None = None) -> list[int]:
        """Token ids up to the start of the answer; without a style, for an answer without thinking."""
        return self._encode(self._prompt_text(prompt, style or self._styles.style("answer", thinks=False)))

    def _prompt_text(self, prompt: str, style: ChatStyle) -> str:
        prompt = with_texts(prompt, lambda text: strip_control_tokens(text, self._special_tokens))
        try:
            text = render_chat(self._tokenizer, self._system_prompt, prompt, self._shape, style.template_kwargs)
        except Exception as error:  # a template is a program of strangers, and may dislike some conversations
            raise RequestRefused(f"the chat template of {self._name} fails on this prompt: {error!r}") from None
        return text + style.suffix

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    async def _generate(self, request: GenerationRequest, base: EngineReply) -> EngineReply:
        sampling = request.sampling
        room = self._styles.room(request.role, sampling.reasoning_max_tokens)
        style = self._styles.style(request.role, thinks=room > 0)
        text, thought, max_tokens = self._prompt_text(request.prompt, style), "", sampling.max_tokens
        if request.choices is not None:
            # Enough for the longest choice however it is cut into tokens.
            max_tokens = max(len(choice.encode()) for choice in request.choices) + 1
        constrained = request.choices is not None or request.regex is not None
        if not constrained:
            max_tokens += room
        elif room and style.thinking is not None:
            # A grammar holds from the first token on, so the reasoning comes first, in a request of its own.
            text, done = await self._thought(request, style, text, room, max_tokens)
            thought, base = done.reasoning, replace(base, num_tokens=done.num_tokens)
        token_ids = self._encode(text)
        free = self._window - len(token_ids)
        if free < 1:
            raise PromptTooLong(self._name, len(token_ids), self._window)
        params = generation_params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(max_tokens, free),
            seed=sampling.seed,
            choices=request.choices,
            regex=request.regex,
            show_control_tokens=style.shows_control_tokens and not constrained,
        )
        output = await self._decode(token_ids, params)
        answer = self._checked(request, output)
        done = replace(
            base,
            text=answer.text,
            num_prompt_tokens=len(token_ids),
            num_tokens=base.num_tokens + len(answer.token_ids),
            finish_reason=answer.finish_reason,
            choice_logprobs=await self._choice_logprobs(request, token_ids, output),
            reasoning=thought,
        )
        return done if constrained else self._told_apart(done, style, sampling.max_tokens)

    async def _thought(
        self, request: GenerationRequest, style: ChatStyle, prompt: str, room: int, after: int
    ) -> tuple[str, EngineReply]:
        """The prompt with the model's reasoning behind it, its block closed, and that reasoning as a reply. The
        block is opened for the model and ends with its end tag, its turn, or its room; `after` tokens stay free."""
        way = style.thinking
        assert way is not None
        opened = prompt if style.opened else prompt + opening(way)
        token_ids = self._encode(opened)
        free = self._window - len(token_ids) - len(self._encode(closing(way))) - after
        if free < 1:
            raise PromptTooLong(self._name, len(token_ids), self._window)
        end = self._encode(way.end)
        params = generation_params(
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            max_tokens=min(room, free),
            seed=request.sampling.seed,
            stop=way.end,
            stop_token_id=end[0] if len(end) == 1 else None,
        )
        answer = self._checked(request, await self._decode(token_ids, params))
        thought = split_reasoning(answer.text, way, opened=True, finished=True).reasoning
        thought = strip_control_tokens(thought, self._special_tokens)
        done = EngineReply(request.request_id, self._name, 0, reasoning=thought, num_tokens=len(answer.token_ids))
        return opened + thought + closing(way), done

    def _checked(self, request: GenerationRequest, output: Any) -> Any:
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):  # the engine's own failures never get here
            raise RequestRefused(f"vLLM ended request {request.request_id} with reason {answer.finish_reason!r}")
        return answer

    def _told_apart(self, done: EngineReply, style: ChatStyle, max_tokens: int) -> EngineReply:
        """Separates reasoning from the answer, and applies the answer's own token limit, whatever room reasoning
        had."""
        split = split_reasoning(done.text, style.thinking, style.opened, done.finish_reason == "stop")
        text, reasoning = split.text, split.reasoning
        if style.shows_control_tokens:
            text, reasoning = (strip_control_tokens(part, self._special_tokens) for part in (text, reasoning))
        done = replace(done, text=text, reasoning=reasoning)
        if done.num_tokens > max_tokens and len(ids := self._encode(text)) > max_tokens:
            return replace(done, text=self._tokenizer.decode(ids[:max_tokens]), finish_reason="length")
        return done

    async def _choice_logprobs(
        self, request: GenerationRequest, ids: list[int], output: Any
    ) -> dict[str, float] | None:
        if request.choices is None:
            return None
        at_once = first_token_choices(api.first_token_logprobs(output, self._tokenizer), request.choices)
        if at_once is not None:
            return at_once
        # Choices that begin alike: read each one's own probability after the prompt.
        scores = await asyncio.gather(*(self._logprob_after(ids, self._encode(choice)) for choice in request.choices))
        return normalised_choices(dict(zip(request.choices, scores, strict=True)))

    async def _score(self, request: ScoreRequest, base: EngineReply) -> EngineReply:
        answer = strip_control_tokens(request.answer, self._special_tokens)
        style = self._styles.style(request.role, thinks=False)
        prompt_ids, answer_ids = self.prompt_ids(request.prompt, style), self._encode(answer)
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
        output = await self._decode(token_ids, scoring_params())
        return sum(api.prompt_logprobs(output)[-len(answer_ids) :])
