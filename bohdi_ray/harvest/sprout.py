"""Asking the sources for names of new domains (method, section 3). One `SproutRequest` in, its `Proposals` out.

Called by harvest tasks. Prompts and seeds depend on the run's seed and the request alone, so proposals may be asked for
ahead of their election. Whether a name is still free, and who wins, is the tree's business.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

from bohdi_ray.engines.prompts import name_regex, parse_name
from bohdi_ray.errors import RequestQuarantined
from bohdi_ray.harvest.models import Models, all_of
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.source_notes import NotedModels, SourceNotes
from bohdi_ray.randomness import derived_seed, generator
from bohdi_ray.records import Completion, GenerationRequest, Proposals, ScoreRequest, SproutRequest, tokens_name
from bohdi_ray.tree.names import valid_name


async def sprout(request: SproutRequest, models: Models, plan: HarvestPlan) -> Proposals:
    """Every source that takes part proposes `proposals_per_source` names. A prompt too long for a source, or a request
    that its engines die of, costs that proposal. With `min_support` the sources are then asked what they think of each
    other's names. Raises SourceLeftOut."""
    notes = SourceNotes()
    models = NotedModels(models, notes)
    level = plan.level_names[len(request.path)]
    prompt = plan.templates.render_sprout(request.path, level, leaf=request.leaf, election=request.election)
    asked = [
        (source, _proposal_request(request, source, k, prompt, plan))
        for source in models.sources
        for k in range(plan.proposals_per_source)
    ]
    quarantined: list[str] = []

    async def served(answer: Coroutine[Any, Any, Completion]) -> Completion | None:
        try:
            done = await answer
        except RequestQuarantined as error:
            quarantined.append(error.part)
            return None
        return done if done.error is None else None

    answers = await all_of([served(models.generate(source, one)) for source, one in asked])
    completions = [done for done in answers if done is not None]
    model_tokens: Counter[str] = Counter()
    for done in completions:
        model_tokens[tokens_name("sprout", done.model)] += done.num_tokens
    parsed = [valid_name(parse_name(done.text)) for done in completions]
    names = tuple(name for name in parsed if name is not None)
    num_valid = len(names)
    if plan.min_support and names:
        opinions = [(source, name) for source in models.sources for name in ("", *dict.fromkeys(names))]
        scores = await all_of(
            [served(models.score(source, _support_request(request, source, name, prompt))) for source, name in opinions]
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
    )


def _proposal_request(request: SproutRequest, source: str, k: int, prompt: str, plan: HarvestPlan) -> GenerationRequest:
    seed = derived_seed(plan.seed, "sprout", "/".join(request.path), request.election, source, k)
    return GenerationRequest(
        request_id=f"{request.request_id}/{source}/{k}",
        role="sprout",
        prompt=prompt,
        sampling=plan.spec("sprout", source, seed),
        regex=name_regex(k + 1, _first_letters(request, plan)),
    )


def _support_request(request: SproutRequest, source: str, name: str, prompt: str) -> ScoreRequest:
    """How likely `source` finds `name` as the first entry of its list; without a name, the number of that entry."""
    return ScoreRequest(f"{request.request_id}/support/{source}/{name}", "sprout", prompt, f"1. {name}".rstrip())


def supported(scores: Mapping[tuple[str, str], Completion | None], plan: HarvestPlan) -> set[str]:
    """The names that enough sources find likely, from every source's score of every name and of "", the entry's number
    alone. A source that could not be asked supports none."""
    logprobs = {asked: done.logprob for asked, done in scores.items() if done is not None and done.logprob is not None}
    threshold, support = math.log(plan.support_probability), Counter[str]()
    for (source, name), logprob in logprobs.items():
        number = logprobs.get((source, ""))
        support[name] += bool(name) and number is not None and logprob - number >= threshold
    needed = min(plan.min_support, len({source for source, _ in scores}))
    return {name for name, num_sources in support.items() if num_sources >= needed}


def _first_letters(request: SproutRequest, plan: HarvestPlan) -> str:
    """The letters names may begin with: with `sprout.vary_initials` a random half of them in a node's later elections.

    The names that come to mind first are taken after the first election, and prompts know nothing of it; without this,
    small models propose the same few names again. All sources get the same letters, so that votes can meet.
    """
    if request.election == 0 or not plan.vary_initials:
        return "A-Z"
    rng = generator(plan.seed, "letters", "/".join(request.path), request.election)
    return "".join(sorted(rng.choice(list(string.ascii_uppercase), size=13, replace=False)))
