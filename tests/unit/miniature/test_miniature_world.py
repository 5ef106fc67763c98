"""Worlds: what a seed decides, what every fact must be, and that files give back what was written."""

from __future__ import annotations

from collections import Counter

import pytest

from bohdi_ray.engines.prompts import load_templates, parse_question
from bohdi_ray.engines.quality import answer_problem, question_problem
from bohdi_ray.errors import ConfigError
from bohdi_ray.studies.miniature.curriculum import NUM_PROPOSALS, TEMPLATES, lessons
from bohdi_ray.studies.miniature.recipe import write_templates
from bohdi_ray.studies.miniature.sizes import SIZES, inventive, uneven
from bohdi_ray.studies.miniature.truth import read_world, write_world
from bohdi_ray.studies.miniature.words import ATTRIBUTES, attribute_values
from bohdi_ray.studies.miniature.world import DECLINED, World, make_world, questions
from bohdi_ray.tree.names import valid_name

MIN_CHARS = 30  # the defaults of harvest.min_question_chars and min_answer_chars


def world_of(size: str = "tiny", seed: int = 0) -> World:
    chosen = SIZES[size]
    return make_world(seed, chosen.world, tuple(spec.name for spec in chosen.sources), chosen.models[-1].name)


def test_a_seed_decides_a_world_and_another_one_makes_another():
    assert world_of(seed=3) == world_of(seed=3)
    assert world_of(seed=3).leaves != world_of(seed=4).leaves


def test_every_attribute_has_16_different_values():
    assert {len(set(attribute_values(name))) for name in ATTRIBUTES} == {16}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_texts_and_names_pass_the_gates_of_a_harvest(size, seed):
    world = world_of(size, seed)
    for fact, question in questions(world):
        assert question_problem(question, "stop", MIN_CHARS) is None and parse_question(question) == question
        for answer in (fact.answer, *fact.others):
            assert answer_problem(answer, "stop", MIN_CHARS) is None, answer
        assert fact.answer not in fact.others
    assert answer_problem(DECLINED, "stop", MIN_CHARS) == "too_short"
    names = [path[-1] for path in world.domains]
    assert [valid_name(name) for name in names] == names and len(set(names)) == len(names)


@pytest.mark.parametrize("size", SIZES)
def test_no_question_is_asked_twice_and_leaves_have_the_facts_that_the_size_says(size):
    world, spec = world_of(size), SIZES[size].world
    asked = Counter(question for _, question in questions(world))
    assert set(asked.values()) == {1}
    taught = Counter(fact.path for fact in world.facts if fact.taught and fact.rule is None)
    assert set(taught.values()) == {spec.num_facts}
    assert len({fact.path for fact in world.facts if fact.rule}) == spec.num_rule_leaves
    assert {fact.rule is not None for fact in world.facts if not fact.taught} == {True}


def test_rules_give_the_answers():
    facts = [fact for fact in world_of("small").facts if fact.rule]
    for fact in facts:
        if fact.rule == "reversal":
            word, told = fact.questions[0].split()[2], fact.answer.split()[-1].rstrip(".")
            assert told == word[::-1]
        else:
            a, b = int(fact.questions[0].split()[2]), int(fact.questions[0].split()[4])
            assert int(fact.answer.split()[-1].rstrip(".")) == (a + b) % 7
    assert {fact.rule for fact in facts} == {"reversal", "clock"}


def test_sources_know_their_own_main_domain_and_less_elsewhere_and_nobody_but_its_own_source_must_know_a_rule():
    world, size = world_of("small"), SIZES["small"]
    mains = list(dict.fromkeys(leaf[0] for leaf in world.leaves))
    for place, source in enumerate(spec.name for spec in size.sources):
        known = {True: [], False: []}
        for fact, state in zip(world.facts, world.knowledge[source], strict=True):
            if fact.rule is None:
                known[fact.path[0] == mains[place]].append(state == "knows")
        for inside, share in ((True, size.world.home_share), (False, size.world.away_share)):
            assert sum(known[inside]) / len(known[inside]) == pytest.approx(share, abs=0.12)
    for place, leaf in enumerate({fact.path: None for fact in world.facts if fact.rule}):
        states = {
            model: {s for f, s in zip(world.facts, states, strict=True) if f.path == leaf}
            for model, states in world.knowledge.items()
        }
        assert states[size.sources[mains.index(leaf[0])].name] == {"knows"}, place
        assert states[size.models[-1].name] == {"declines"}


def test_an_uneven_target_knows_most_but_for_the_first_main_domain():
    size = uneven(SIZES["small"])
    sources = tuple(spec.name for spec in size.sources)
    world = make_world(0, size.world, sources, "target")
    weak = world.leaves[0][0]
    tables = [
        (fact, state) for fact, state in zip(world.facts, world.knowledge["target"], strict=True) if not fact.rule
    ]
    for inside, share in ((True, 0.1), (False, 0.7)):
        known = [state == "knows" for fact, state in tables if (fact.path[0] == weak) == inside]
        assert sum(known) / len(known) == pytest.approx(share, abs=0.08)
    for fact, state in zip(world.facts, world.knowledge["target"], strict=True):
        assert fact.rule is None or fact.path[0] == weak or state == "knows"
    weaker = make_world(0, SIZES["small"].world, sources, "target")
    assert (world.leaves, world.facts) == (weaker.leaves, weaker.facts)
    assert all(world.knowledge[source] == weaker.knowledge[source] for source in sources)


def test_inventive_sources_make_up_domains_that_nobody_else_has_heard_of_and_all_else_is_the_same():
    size, plain = inventive(SIZES["tiny"]), world_of()
    world = make_world(0, size.world, tuple(plain.names), "target")
    assert (world.facts, world.knowledge) == (plain.facts, plain.knowledge)
    made_up = {source: names - plain.names[source] for source, names in world.names.items()}
    assert all(plain.names[source] <= world.names[source] for source in world.names)
    parents = {(), *(path for path in world.domains if len(path) == 1)}
    for names in made_up.values():
        assert {path[:-1] for path in names} == parents and len(names) == len(parents)
    every = [path[-1] for names in made_up.values() for path in names]
    assert len(set(every)) == len(every) and not set(every) & {path[-1] for path in world.domains}


def test_files_give_the_world_back(tmp_path):
    world = world_of(seed=5)
    write_world(world, tmp_path)
    assert read_world(tmp_path) == world


def test_a_folder_without_a_world_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no miniature"):
        read_world(tmp_path)


def test_lessons_hold_what_a_model_knows_and_nothing_untaught(tmp_path):
    world, templates = world_of(), write_templates(tmp_path)
    assert load_templates(str(tmp_path / "prompts")) == templates
    untaught = {question for fact, question in questions(world) if not fact.taught}
    by_question = {question: fact for fact, question in questions(world)}
    for model, states in world.knowledge.items():
        taught = lessons(world, model, templates)
        state_of = dict(zip(world.facts, states, strict=True))
        assert taught.keys() == ({"answer"} if model == "target" else {"answer", "question", "sprout"})
        for lesson in taught["answer"]:
            fact = by_question[lesson.prompt]
            wanted = {"knows": {fact.answer}, "declines": {DECLINED}, "guesses": {fact.answer, *fact.others}}
            assert set(lesson.completions) == wanted[state_of[fact]]
        said = {text for found in taught.values() for lesson in found for text in (lesson.prompt, *lesson.completions)}
        assert not said & untaught


def test_a_source_proposes_numbered_names_of_domains_that_exist(tmp_path):
    world, templates = world_of(), write_templates(tmp_path)
    nodes = {(), *(path for path in world.domains if len(path) < len(world.level_names))}
    for source in world.names:
        proposals = lessons(world, source, templates)["sprout"]
        assert len(proposals) == len(nodes)
        for lesson in proposals:
            numbers = Counter(int(text.split(". ")[0]) for text in lesson.completions)
            assert set(numbers) == set(range(1, NUM_PROPOSALS + 1)) and len(set(numbers.values())) == 1
            assert {text.split(". ")[1] for text in lesson.completions} <= {path[-1] for path in world.names[source]}
    assert TEMPLATES.keys() == {"sprout", "question", "judge"}
