"""The requests of a health check: the same fields as in harvests, with questions that any model can answer."""

from __future__ import annotations

import re

from bohdi_ray.config import OpenAIModel
from bohdi_ray.languages.name_grammar import name_regex
from bohdi_ray.records import EngineReply, GenerationRequest, Role, SamplingSpec

PREFIX = "ping/"
LABELS = ("A", "B")
ANSWER = "Name a colour."
NAME = "Write the first entry of a numbered list of sciences: its number, a full stop, a space, and the name alone."
LABEL = "Which of these is a colour?\n\nA: green\n\nB: seven\n\nAnswer with the letter A or B alone."


def requests(model: OpenAIModel, judges: bool) -> list[GenerationRequest]:
    """One request of each kind that a run sends to its sources, with the role's own sampling."""
    asked = [
        GenerationRequest(f"{PREFIX}answer", "answer", ANSWER, sampling_of(model, "answer")),
        GenerationRequest(f"{PREFIX}sprout", "sprout", NAME, sampling_of(model, "sprout"), regex=name_regex(1)),
    ]
    if judges:
        asked.append(GenerationRequest(f"{PREFIX}judge", "judge", LABEL, sampling_of(model, "judge"), choices=LABELS))
    return asked


def shortest(model: OpenAIModel) -> GenerationRequest:
    """A plain request with almost no cost, to see whether the server answers at all."""
    sampling = sampling_of(model, "answer")
    return GenerationRequest(
        f"{PREFIX}short", "answer", ANSWER, SamplingSpec(sampling.temperature, sampling.top_p, 16, sampling.seed)
    )


def sampling_of(model: OpenAIModel, role: Role) -> SamplingSpec:
    """The sampling of a role, as harvests use it."""
    of = model.sampling_of(role)
    assert of.temperature is not None and of.top_p is not None and of.max_tokens is not None
    return SamplingSpec(of.temperature, of.top_p, of.max_tokens, seed=0)


def problem(request: GenerationRequest, done: EngineReply) -> str | None:
    """What a person should know about an answer to a health check; None if there is nothing."""
    if request.choices is not None and done.choice_logprobs is None:
        return f"it names no label when asked for one ({done.text[:80]!r}); what it judges will be lost"
    if not done.text.strip():
        return f"its answer to the health check ({request.role}) is empty"
    return None


RAN_OUT = re.compile(r"could not finish the message because max_tokens|output limit was reached", re.I)


def ran_out(said: str) -> bool:
    """Whether the server says that a reply ran out of tokens, as OpenAI's does if reasoning used all of them."""
    return RAN_OUT.search(said) is not None
