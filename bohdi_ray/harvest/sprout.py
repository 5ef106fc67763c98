"""Asking the sources for names of new domains (method, section 3). One `SproutRequest` in, its `Proposals` out.

Called by harvest tasks. Prompts and seeds depend only on the run's seed and the request, so proposals may be requested
before their election. The tree decides whether a name is still free and which name wins.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from bohdi_ray.engines.chat.reasoning import without_reasoning
from bohdi_ray.engines.models import Models, all_of
from bohdi_ray.engines.prompts import parse_name
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.source_notes import NotedModels, SourceNotes
from bohdi_ray.languages.name_grammar import any_initials, initial_groups, name_regex, name_scripts
from bohdi_ray.randomness import derived_seed, generator
from bohdi_ray.records import EngineReply, GenerationRequest, Proposals, ScoreRequest, SproutRequest, tokens_name
from bohdi_ray.tree.elections import NO_VALID_NAME
from bohdi_ray.tree.names import valid_name


async def sprout(request: SproutRequest, models: Models, plan: HarvestPlan) -> Proposals:
    """Every available source proposes `proposals_per_source` names. A proposal is lost if its prompt is too long for a
    source or its request kills the source's engines. With `min_support` the sources are then asked to score each
    other's names. Raises SourceLeftOut."""
    notes = SourceNotes()
    models = NotedModels(models, notes)
    level = plan.level_names[len(request.path)]
    prompt = plan.templates.render_sprout(request.path, level, leaf=request.leaf, election=request.election)
    initials = _initials(request, prompt, plan)
    asked = [
        (source, _proposal_request(request, source, k, prompt, initials, plan), k + 1)
        for source in models.sources
        for k in range(plan.config.sprout.proposals_per_source)
    ]
    quarantined: list[str] = []

    async def served(answer: Coroutine[Any, Any, EngineReply]) -> EngineReply | None:
        try:
            done = await answer
        except RequestQuarantined as error:
            quarantined.append(error.part)
            return None
        return without_reasoning(done) if done.error is None else None

    answers = await all_of([served(models.ask(source, one)) for source, one, _ in asked])
    numbered = [(done, number) for done, (*_, number) in zip(answers, asked, strict=True) if done is not None]
    completions = [done for done, _ in numbered]
    model_tokens: Counter[str] = Counter()
    for done in completions:
        model_tokens[tokens_name("sprout", done.model)] += done.num_tokens
    parsed = [valid_name(parse_name(_whole_lines(done), number)) for done, number in numbered]
    names = tuple(name for name in parsed if name is not None)
    num_valid = len(names)
    if plan.config.sprout.min_support and names:
        opinions = [(source, name) for source in models.sources for name in ("", *dict.fromkeys(names))]
        scores = await all_of(
            [served(models.ask(source, _support_request(request, source, name, prompt))) for source, name in opinions]
        )
        likely = supported(dict(zip(opinions, scores, strict=True)), plan)
        names = tuple(name for name in names if name in likely)
    return Proposals(
        request_id=request.request_id,
        sources=notes.tallies(),
        names=names,
        num_invalid=len(asked) - len(names),
        num_unsupported=num_valid - len(names),
        num_tokens=model_tokens.total(),
        model_tokens=dict(model_tokens),
        quarantined=tuple(quarantined),
        problem="" if names else problem_of(completions, num_valid),
    )


def _whole_lines(done: EngineReply) -> str:
    """The reply; if the token limit cut it off, without its last line, which may be half a name."""
    text = done.text.lstrip()
    return text.rpartition("\n")[0] if done.finish_reason == "length" and "\n" in text else text


def problem_of(completions: Sequence[EngineReply], num_valid: int) -> str:
    """Why a poll gave no usable name: what was answered, and how many valid names it contained."""
    if not completions:
        return "sources_failed"
    if not any(done.text.strip() for done in completions):
        return "no_proposals"
    return "no_supported_name" if num_valid else NO_VALID_NAME


def _proposal_request(
    request: SproutRequest, source: str, k: int, prompt: str, initials: str | dict[str, str], plan: HarvestPlan
) -> GenerationRequest:
    seed = derived_seed(plan.config.seed, "sprout", "/".join(request.path), request.election, source, k)
    return GenerationRequest(
        request_id=f"{request.request_id}/{source}/{k}",
        role="sprout",
        prompt=prompt,
        sampling=plan.spec("sprout", source, seed),
        regex=name_regex(k + 1, initials),
    )


def _support_request(request: SproutRequest, source: str, name: str, prompt: str) -> ScoreRequest:
    """How likely `source` finds `name` as the first entry of its list; without a name, the number of that entry."""
    return ScoreRequest(f"{request.request_id}/support/{source}/{name}", "sprout", prompt, f"1. {name}".rstrip())


def supported(scores: Mapping[tuple[str, str], EngineReply | None], plan: HarvestPlan) -> set[str]:
    """The names that enough sources find likely, from every source's score of every name and of "", the entry's number
    alone. A source that could not be asked supports none."""
    logprobs = {asked: done.logprob for asked, done in scores.items() if done is not None and done.logprob is not None}
    threshold, support = math.log(plan.config.sprout.support_probability), Counter[str]()
    for (source, name), logprob in logprobs.items():
        number = logprobs.get((source, ""))
        support[name] += bool(name) and number is not None and logprob - number >= threshold
    needed = min(plan.config.sprout.min_support, len({source for source, _ in scores}))
    return {name for name, num_sources in support.items() if num_sources >= needed}


def _initials(request: SproutRequest, prompt: str, plan: HarvestPlan) -> str | dict[str, str]:
    """The letters that names may begin with: with `sprout.vary_initials` a random half of them in a node's later
    elections.

    The names that come to mind first are taken after the first election, and prompts know nothing of it; without this,
    small models propose the same few names again. All sources get the same letters, so that votes can meet.
    """
    scripts = name_scripts(prompt)
    if request.election == 0 or not plan.config.sprout.vary_initials:
        return any_initials(scripts) if scripts else "A-Z"
    rng = generator(plan.config.seed, "letters", "/".join(request.path), request.election)
    if not scripts:
        return "".join(sorted(rng.choice(list(string.ascii_uppercase), size=13, replace=False)))
    halves = {}
    for script in sorted(scripts):
        groups = initial_groups(script)
        drawn = rng.choice(len(groups), size=(len(groups) + 1) // 2, replace=False)
        halves[script] = "".join(groups[i] for i in sorted(drawn.tolist()))
    return halves
