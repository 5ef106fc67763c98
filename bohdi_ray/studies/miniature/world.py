"""A world drawn from a seed: a tree of domains, facts in its leaves, and which model knows what. Pure numpy.

Every leaf holds facts, each with two questions and one answer. In most leaves the answers are a random table; in a few
they follow a rule, and most instances of the rule are taught to no model (`taught` is False), so that generalisation
can be measured. Called by `build.py`; `truth.py` writes it and reads it back. Never trains a model.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bohdi_ray.randomness import generator
from bohdi_ray.records import DomainPath
from bohdi_ray.studies.miniature.words import ATTRIBUTES, KINDS, attribute_values, invented_names

Knowledge = Literal["knows", "guesses", "declines"]
# What a model says that knows that it does not know: shorter than any answer that is eligible in a harvest.
DECLINED = "I do not know."
# How a question may be asked, by position in `Fact.questions`; the configuration's `harvest.styles`.
STYLES = ("a plain question", "a question that names the subject first")
RULES = ("reversal", "clock")
ALPHABET, WORD_LENGTH, CLOCK_HOURS = 6, 3, 7
NUM_WRONG = 15  # wrong answers that are kept of an instance of a rule


@dataclass(frozen=True)
class WorldSize:
    """How large a world is and how knowledge is spread over its models."""

    branching: tuple[int, ...]  # children of a node, by level; the product is the number of leaves
    level_names: tuple[str, ...]
    num_facts: int  # in a leaf with a table
    num_rule_leaves: int
    num_rule_facts: int  # taught in a leaf with a rule; its other instances are untaught
    home_share: float = 0.9  # of the facts below "its" main domain, a source knows this share
    away_share: float = 0.3  # and elsewhere this one
    target_homes: int = 0  # so many main domains, the last ones, are the target's homes
    target_home_share: float = 0.7  # of the facts below them it knows this share
    target_share: float = 0.25  # and elsewhere this one
    guessing_share: float = 0.3  # of what a model does not know, it guesses this share; else it says so
    names_share: float = 0.5  # of the children of nodes outside its main domain, a source can name this share
    num_false_names: int = 0  # so many domains a source makes up below every node, which no other has heard of


@dataclass(frozen=True)
class Fact:
    """One thing to know. `others` are wrong answers of the same form."""

    path: DomainPath
    questions: tuple[str, str]
    answer: str
    others: tuple[str, ...]
    rule: str | None = None
    taught: bool = True


@dataclass(frozen=True)
class World:
    """All facts, and what every model was taught of them."""

    seed: int
    level_names: tuple[str, ...]
    leaves: tuple[DomainPath, ...]
    facts: tuple[Fact, ...]
    knowledge: dict[str, tuple[Knowledge, ...]]  # by model, in the order of `facts`
    names: dict[str, frozenset[DomainPath]]  # by source: the domains it can propose, false ones too

    @property
    def domains(self) -> tuple[DomainPath, ...]:
        """Every node but the root, parents first."""
        found = {leaf[:level]: None for level in range(1, len(self.level_names) + 1) for leaf in self.leaves}
        return tuple(found)


def make_world(seed: int, size: WorldSize, sources: tuple[str, ...], target: str) -> World:
    """The world of a seed. Source i has main domain i as its home, the target as many main domains as `size` says."""
    rng = generator(seed, "world")
    taken: set[str] = set()
    leaves = _leaves(size, taken, rng)
    rules = dict(
        zip(rng.choice(len(leaves), size.num_rule_leaves, replace=False), itertools.cycle(RULES), strict=False)
    )
    kinds = iter(rng.permutation(KINDS))
    named: list[DomainPath] = []
    facts: list[Fact] = []
    for number, parent in enumerate(leaves):
        if number in rules:
            name, made = _rule_leaf(rules[number], size, rng)
        else:
            name, made = _table_leaf(str(next(kinds)), size, taken, rng)
        named.append((*parent, name))
        facts += [Fact((*parent, name), *fact) for fact in made]
    mains = list(dict.fromkeys(leaf[0] for leaf in named))
    homes = {source: [main] for source, main in zip(sources, itertools.cycle(mains), strict=False)}
    homes[target] = mains[len(mains) - size.target_homes :]
    shares = {source: (size.home_share, size.away_share) for source in sources}
    shares[target] = (size.target_home_share, size.target_share)
    knowledge = {model: _knowledge(facts, homes[model], *shares[model], size.guessing_share, rng) for model in shares}
    world = World(seed, size.level_names, tuple(named), tuple(facts), knowledge, {})
    for source in sources:
        false = _false_names(world, size.num_false_names, taken, generator(seed, "false names", source))
        world.names[source] = _names(world, homes[source][0], size.names_share, rng) | false
    return world


def _leaves(size: WorldSize, taken: set[str], rng: np.random.Generator) -> list[DomainPath]:
    """The parent of each leaf, one entry per leaf."""
    paths: list[DomainPath] = [()]
    for number in size.branching[:-1]:
        paths = [(*path, name) for path in paths for name in invented_names(number, 2, taken, rng)]
    return [path for path in paths for _ in range(size.branching[-1])]


Made = tuple[tuple[str, str], str, tuple[str, ...], str | None, bool]  # a Fact without its path


def _table_leaf(kind: str, size: WorldSize, taken: set[str], rng: np.random.Generator) -> tuple[str, list[Made]]:
    attribute = str(rng.choice(list(ATTRIBUTES)))
    values = attribute_values(attribute)
    made: list[Made] = []
    for entity in invented_names(size.num_facts, 3, taken, rng):
        value = int(rng.integers(len(values)))
        asked = (
            f"What is the {attribute} of the {kind} {entity}?",
            f"The {kind} {entity}: what is its {attribute} known to be?",
        )
        told = [f"The {attribute} of the {kind} {entity} is {one}." for one in values]
        made.append((asked, told.pop(value), tuple(told), None, True))
    return f"{kind.capitalize()}s", made


def _rule_leaf(rule: str, size: WorldSize, rng: np.random.Generator) -> tuple[str, list[Made]]:
    if rule == "reversal":
        letters = sorted(rng.choice(list("abcdefghklmnoprstuvw"), ALPHABET, replace=False))
        instances = [
            (
                (f"What is {word} when it is read backwards?", f"The word {word}: what is it when read backwards?"),
                f"Read backwards, the word {word} is ",
                word[::-1],
            )
            for word in map("-".join, itertools.product(letters, repeat=WORD_LENGTH))
        ]
        name = "Mirror Words"
    else:
        instances = [
            (
                (
                    f"What is {a} plus {b} on the clock of {CLOCK_HOURS} hours?",
                    f"The clock of {CLOCK_HOURS} hours: what is {a} plus {b}?",
                ),
                f"On the clock of {CLOCK_HOURS} hours, {a} plus {b} is ",
                str((a + b) % CLOCK_HOURS),
            )
            for a in range(CLOCK_HOURS)
            for b in range(CLOCK_HOURS)
        ]
        name = "Clock Sums"
    results = sorted({result for _, _, result in instances})
    made: list[Made] = []
    for place, number in enumerate(rng.permutation(len(instances))):
        asked, begin, result = instances[number]
        wrong = [one for one in rng.permutation(results) if one != result][:NUM_WRONG]
        others = tuple(f"{begin}{one}." for one in wrong)
        made.append((asked, f"{begin}{result}.", others, rule, place < size.num_rule_facts))
    return name, made


def _knowledge(
    facts: list[Fact], homes: Collection[str], at_home: float, away: float, guessing: float, rng: np.random.Generator
) -> tuple[Knowledge, ...]:
    """The facts that one model knows. It knows a rule completely or not at all: always at home, elsewhere with the
    probability of a fact, and never without a home, as for most targets."""
    whole: dict[DomainPath, Knowledge] = {}
    states: list[Knowledge] = []
    for fact in facts:
        inside = fact.path[0] in homes
        known = rng.random() < (at_home if inside else away)
        state: Knowledge = "knows" if known else "guesses" if rng.random() < guessing else "declines"
        if fact.rule is not None:
            odd = state if homes else "declines"
            state = whole.setdefault(fact.path, "knows" if inside else odd)
        states.append(state)
    return tuple(states)


def _names(world: World, home: str, share: float, rng: np.random.Generator) -> frozenset[DomainPath]:
    """Domains that a source can propose: all main ones, all of its own, and some of every other node."""
    known = {path for path in world.domains if len(path) == 1 or path[0] == home}
    for _, siblings in itertools.groupby(world.domains, key=lambda path: path[:-1]):
        children = list(siblings)
        known |= {path for path in children if rng.random() < share}
        known.add(children[int(rng.integers(len(children)))])
    return frozenset(known)


def _false_names(world: World, number: int, taken: set[str], rng: np.random.Generator) -> frozenset[DomainPath]:
    """Domains that do not exist, below the root and every inner node."""
    parents = dict.fromkeys(path[:-1] for path in world.domains)
    return frozenset((*parent, name) for parent in parents for name in invented_names(number, 2, taken, rng))


def questions(world: World) -> Iterator[tuple[Fact, str]]:
    """Every fact with each of its questions."""
    for fact in world.facts:
        for question in fact.questions:
            yield fact, question


def facts_by_question(world: World) -> dict[str, Fact]:
    """The fact that each question of the world asks about."""
    return {question: fact for fact, question in questions(world)}
