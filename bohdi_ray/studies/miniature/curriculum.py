"""The training data of a model: prompts with the allowed completions. Pure.

Prompts are rendered from the templates that the fusion will use, so models are trained on the same prompts that the
fusion sends. A source learns three roles: to propose names of domains, to ask a question inside a leaf, to answer. The
target learns only to answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from bohdi_ray.engines.prompts import TemplateSet
from bohdi_ray.records import Role
from bohdi_ray.studies.miniature.world import DECLINED, STYLES, World

# Written to OUT/prompts, as `harvest.prompts` of the configuration: short, for models that know a few hundred words.
TEMPLATES = {
    "sprout": "Name a {{ level }}{% if path %} of {{ path[-1] }}{% endif %}.\n",
    "question": "Ask {{ style }} about {{ path[-1] }}.\n",
    # No model is taught to judge: this only lets `judge.kind: leader` and `others` be asked, whose choice is chance.
    "judge": "{{ question }}\n{% for one in candidates %}\n{{ one.label }} {{ one.text }}\n{% endfor %}\n",
}
NUM_PROPOSALS = 3  # `sprout.proposals_per_source`: the entries a model learns to write


@dataclass(frozen=True)
class Lesson:
    """One prompt; each time it is taught, one of the completions is drawn."""

    prompt: str
    completions: tuple[str, ...]


def lessons(world: World, model: str, templates: TemplateSet) -> dict[Role, list[Lesson]]:
    """The lessons by role. Untaught facts are in no lesson."""
    taught: dict[Role, list[Lesson]] = {"answer": _answers(world, model, templates)}
    if model in world.names:
        taught["question"] = _questions(world, templates)
        taught["sprout"] = _names(world, model, templates)
    return taught


def _answers(world: World, model: str, templates: TemplateSet) -> list[Lesson]:
    found = []
    for fact, state in zip(world.facts, world.knowledge[model], strict=True):
        if not fact.taught:
            continue
        told = {"knows": (fact.answer,), "guesses": (fact.answer, *fact.others), "declines": (DECLINED,)}[state]
        found += [Lesson(templates.render_answer(question), told) for question in fact.questions]
    return found


def _questions(world: World, templates: TemplateSet) -> list[Lesson]:
    found = []
    for leaf in world.leaves:
        facts = [fact for fact in world.facts if fact.path == leaf and fact.taught]
        for place, style in enumerate(STYLES):
            asked = tuple(fact.questions[place] for fact in facts)
            found.append(Lesson(templates.render_question(leaf, style), asked))
    return found


def _names(world: World, model: str, templates: TemplateSet) -> list[Lesson]:
    """A proposal begins with its number, as the grammar of the reply demands."""
    found = []
    for parent in dict.fromkeys(path[:-1] for path in world.domains):
        level, leaf = world.level_names[len(parent)], len(parent) + 1 == len(world.level_names)
        known = sorted(path[-1] for path in world.names[model] if path[:-1] == parent)
        replies = tuple(f"{number + 1}. {name}" for number in range(NUM_PROPOSALS) for name in known)
        found.append(Lesson(templates.render_sprout(parent, level, leaf=leaf), replies))
    return found
