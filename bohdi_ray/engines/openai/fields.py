"""Builds the body of a request in the format that the server accepts. Pure."""

from __future__ import annotations

from typing import Any

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.chat.rendering import strip_control_tokens
from bohdi_ray.engines.chat.template_trial import ChatShape
from bohdi_ray.engines.chat.turns import with_texts
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.constraints import kind_of, way_for
from bohdi_ray.records import GenerationRequest

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


def reasoning_room(request: GenerationRequest, model: OpenAIModel, learned: Capabilities) -> int:
    """Number of tokens for reasoning, in addition to the answer's: as configured for the role, else as learned."""
    configured = configured_room(request, model)
    return learned.room if configured is None else configured


def configured_room(request: GenerationRequest, model: OpenAIModel) -> int | None:
    """`reasoning_max_tokens` of the request's role; None if it is not set."""
    own = getattr(model.sampling, request.role).reasoning_max_tokens
    return (
        max(own, request.sampling.reasoning_max_tokens)
        if own is not None
        else (request.sampling.reasoning_max_tokens or None)
    )


def body_of(
    request: GenerationRequest, model: OpenAIModel, learned: Capabilities, most_room: int | None = None
) -> dict[str, Any]:
    """The JSON object to send, with at most `most_room` tokens for reasoning."""
    sampling = request.sampling
    prompt = with_texts(request.prompt, lambda text: strip_control_tokens(text, CONTROL_TOKENS))
    messages = ChatShape(folded=learned.folded).messages(model.system_prompt, prompt)
    if learned.parts:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    room = reasoning_room(request, model, learned)
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens + (room if most_room is None else min(room, most_room)),
    }
    if request.choices is not None:
        body |= {"logprobs": True, "top_logprobs": MAX_TOP_LOGPROBS}
    if kwargs := _template_variables(request, model):
        body["chat_template_kwargs"] = kwargs
        if "chat_template_kwargs" in learned.left_out and "reasoning_effort" in kwargs:
            body["reasoning_effort"] = kwargs["reasoning_effort"]  # the name it has outside of templates
    if (kind := kind_of(request)) is not None:
        body |= way_for(request, learned.rungs.get(kind, 0))[1]
    _as_learned(body, learned)
    return {"model": model.model, "messages": messages, **body, **learned.added}


def _template_variables(request: GenerationRequest, model: OpenAIModel) -> dict[str, Any]:
    """Variables for the server's chat template: the model's, then the role's; thinking is switched off if there are no
    tokens for it."""
    role = getattr(model.sampling, request.role)
    variables = {**model.chat_template_kwargs, **role.chat_template_kwargs}
    if role.reasoning_max_tokens == 0 and not {"enable_thinking", "thinking"} & variables.keys():
        variables["enable_thinking"] = False
    return variables


def _as_learned(body: dict[str, Any], learned: Capabilities) -> None:
    for name in {*learned.left_out, *(n for n, value in learned.left_out_at.items() if body.get(n) == value)}:
        body.pop(name, None)
    for limits, pick in ((learned.at_most, min), (learned.at_least, max)):
        for name, limit in limits.items():
            if name in body:
                body[name] = pick(body[name], int(limit) if float(limit).is_integer() else limit)
    if "logprobs" not in body:
        body.pop("top_logprobs", None)
    elif learned.counted_logprobs:
        body["logprobs"] = body.pop("top_logprobs", 1)
    for name, other in learned.renamed.items():
        if name in body:
            value = body.pop(name)
            if other not in learned.left_out:
                body[other] = value
