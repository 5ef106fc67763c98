"""Sprouting: proposals, ballots and elections (method, section 3).

3.1   test_all_sources_get_one_prompt_and_each_proposes_n_names_at_its_temperature_and_top_p_095
3.2   test_a_valid_name_is_one_to_three_words_of_letters_in_title_case_and_no_filler
3.2   test_whatever_text_comes_a_valid_name_keeps_the_rule
3.3   test_names_that_exist_anywhere_in_the_tree_are_dropped
3.4   test_the_most_frequent_name_wins_over_all_sources
3.5   test_ties_are_broken_uniformly_over_seeds_and_in_no_order_of_arrival
3.6   test_an_election_without_a_valid_free_name_fails
3.7   test_with_ballots_off_every_sprout_asks_the_sources_and_votes_are_forgotten
3.8   test_with_ballots_on_the_next_sprout_needs_no_generation_while_names_remain
3.9   test_elections_are_numbered_and_what_they_ask_does_not_depend_on_earlier_results
3.10  test_whether_a_name_is_free_is_checked_when_the_election_is_held_also_for_a_ballot
3.11  test_proposals_are_decoded_under_the_grammar_of_names
"""

import asyncio
import re
from collections import Counter

import pytest
from fakes import ScriptedModels
from hypothesis import given
from hypothesis import strategies as st
from method_by_hand import ByHand, born, described, make_config, state_of
from scipy.stats import chisquare

from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.languages.fillers import FILLERS
from bohdi_ray.languages.names import is_word, name_key
from bohdi_ray.records import SproutRequest
from bohdi_ray.tree.elections import hold
from bohdi_ray.tree.names import valid_name
from bohdi_ray.tree.record import journal

TWO_LEVELS = {"tree": {"depth": 2}, "sprout": {"reuse_ballots": True}}
SOURCES = ("source-a", "source-b", "source-c")


def asked(request: SproutRequest, **sections):
    """What the sources are asked for one sprout request: (model, request) each, and the proposals that came."""
    models = ScriptedModels(sources=SOURCES, target="target")
    proposals = asyncio.run(sprout(request, models, HarvestPlan.from_config(make_config(**sections))))
    return models.requests, proposals


def request_at(*path, election=0):
    return SproutRequest("/".join(("sprout", *path, str(election))), path, election, len(path) == 2)


def one_level(**sections) -> ByHand:
    return ByHand(tree={"depth": 1}, **sections)


def children(hand: ByHand, *path) -> list[str]:
    return [child["name"] for child in hand.node(*path)["children"]]


def test_all_sources_get_one_prompt_and_each_proposes_n_names_at_its_temperature_and_top_p_095():
    requests, proposals = asked(request_at("Science"))
    assert Counter(model for model, _ in requests) == dict.fromkeys(SOURCES, 5)
    assert len({request.prompt for _, request in requests}) == 1
    assert {(request.sampling.temperature, request.sampling.top_p) for _, request in requests} == {(0.7, 0.95)}
    assert len(proposals.names) + proposals.num_invalid == 15
    config = make_config()
    sources = [source.model_copy(update={"temperature": 0.15}) for source in config.sources[:1]]
    requests, _ = asked(request_at(), sources=[*sources, *config.sources[1:]], sprout={"proposals_per_source": 2})
    assert [(model, request.sampling.temperature) for model, request in requests] == [
        *[("source-a", 0.15)] * 2,
        *[("source-b", 0.7)] * 2,
        *[("source-c", 0.7)] * 2,
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("quantum field theory", "Quantum Field Theory"),
        ("  LINEAR   algebra ", "Linear Algebra"),
        ("Physics", "Physics"),
        ("Élan Vital", "Élan Vital"),
        ("", None),
        ("one two three four", None),
        ("Web 2", None),
        ("C++", None),
        ("Art, Music", None),
        ("well-being", None),
        ("unk", None),
        ("UNKNOWN", None),
        ("none", None),
        ("Sub domain", None),
    ],
)
def test_a_valid_name_is_one_to_three_words_of_letters_in_title_case_and_no_filler(text, name):
    assert valid_name(text) == name
    hand = one_level()
    hand.answer(text)
    assert children(hand) == ([text] if text == name else []), "the tree takes a name in its final form only"


@given(st.text(max_size=40))
def test_whatever_text_comes_a_valid_name_keeps_the_rule(text):
    name = valid_name(text)
    if name is not None:
        words = name.split(" ")
        assert 1 <= len(words) <= 6 and all(map(is_word, words)) and valid_name(name) == name
        assert name_key(name) not in {name_key(filler) for filler in FILLERS}
        if name.isascii():  # the paper's rule, to the letter; docs/languages.md says what a word is elsewhere
            assert len(words) <= 3 and name.replace(" ", "").isalpha()
            assert name == " ".join(word.capitalize() for word in words) and name not in FILLERS


def test_names_that_exist_anywhere_in_the_tree_are_dropped():
    start = {"Aa": {"Ba": ["Ca"]}, "Ab": {"Bb": ["Cb"]}}
    taken = ["Aa", "Ab", "Ba", "Bb", "Ca", "Cb"]
    hand = ByHand(start, tree={"depth": 3}, meditation={"steps": 1, "walks_per_step": 40})
    places = set()
    new = (f"New {first}{second}" for first in "BCDFGHKLMN" for second in "abcdefghijklmnopqrst")
    while hand.requests:
        request = hand.requests[0]
        places.add(len(request.path))
        hand.answer(*taken * 3, next(new))
    assert places == {0, 1, 2}, "elections at all levels were held"
    names = [path[-1] for path in described(hand.manager) if path]
    assert len(names) == len(set(names)) and set(taken) <= set(names)
    assert hand.manager.stats()["num_failed_sprouts"] == 0, "the one free name won every time"


def test_the_most_frequent_name_wins_over_all_sources():
    hand = one_level()
    hand.answer("Biology", "Art", "Chemistry", "Art", "Chemistry", "Chemistry", "Dance")
    assert children(hand) == ["Chemistry"]


def test_ties_are_broken_uniformly_over_seeds_and_in_no_order_of_arrival():
    names = ("Art", "Biology", "Chemistry")
    winners: Counter = Counter()
    for seed in range(900):
        first, second = one_level(seed=seed), one_level(seed=seed)
        first.answer(*names, *names, "Dance")
        second.answer("Dance", *reversed(names), *names)
        assert children(first) == children(second)
        winners.update(children(first))
    assert set(winners) == set(names)
    assert chisquare(list(winners.values())).pvalue > 1e-6


def test_an_election_without_a_valid_free_name_fails():
    hand = one_level()
    for names in ([], ["Unknown", "A B C D", "1"]):
        hand.answer(*names)
        assert children(hand) == [] and hand.unk()[0] == 1
    assert hand.manager.stats()["num_failed_sprouts"] == 2 and hand.unk() == (1, 3)


def polls_of(reuse_ballots: bool) -> tuple[ByHand, int]:
    """Three sprouts at the root after one poll with three names; how many polls it took."""
    hand = one_level(sprout={"reuse_ballots": reuse_ballots}, meditation={"steps": 1, "walks_per_step": 60}, seed=1)
    polls = 0
    while len(children(hand)) < 3:
        polls += 1
        hand.answer("Art", "Biology", "Art", "Chemistry", "Biology", "Art")
    return hand, polls


def test_with_ballots_off_every_sprout_asks_the_sources_and_votes_are_forgotten():
    hand, polls = polls_of(reuse_ballots=False)
    assert polls == 3 and hand.manager.stats()["num_ballot_sprouts"] == 0
    assert children(hand) == ["Art", "Biology", "Chemistry"], "what is taken leaves the next most frequent"
    assert hand.node()["ballot"] == {}


def test_with_ballots_on_the_next_sprout_needs_no_generation_while_names_remain():
    hand, polls = polls_of(reuse_ballots=True)
    assert polls == 1 and hand.manager.stats()["num_ballot_sprouts"] == 2
    assert children(hand) == ["Art", "Biology", "Chemistry"], "most votes first"
    assert hand.unk()[0] == 4, "a sprout from the ballot is a success like any other"


def test_elections_are_numbered_and_what_they_ask_does_not_depend_on_earlier_results():
    numbers, ids = [], []
    hand = one_level()
    for names in ([], ["Unknown"], [], ["Art"]):
        (request,) = hand.requests
        numbers.append(request.election)
        ids.append(request.request_id)
        hand.answer(*names)
    assert numbers == [0, 1, 2, 3] and len(set(ids)) == 4
    ahead = one_level(sprout={"requests_ahead": 3}).requests
    assert [(request.request_id, request.election) for request in ahead] == list(zip(ids, numbers, strict=True))
    # The wish says all that the prompt is made of; with the paper's settings only seeds tell the elections apart.
    prompts = [[request.prompt for _, request in asked(request)[0]] for request in ahead]
    seeds = [{request.sampling.seed for _, request in asked(request)[0]} for request in ahead]
    assert prompts[0] == prompts[3] and not seeds[0] & seeds[3]


def test_whether_a_name_is_free_is_checked_when_the_election_is_held_also_for_a_ballot():
    ballot = journal.Elected(("Aa",), False, "Mine", {"Shared": 2, "Other": 1})
    births = [born("Aa"), ballot, born("Ab")]
    before, after = state_of(births, **TWO_LEVELS), state_of([*births, born("Ab", "Shared")], **TWO_LEVELS)
    assert held_at(before, "Aa") == journal.Elected(("Aa",), False, "Shared", {"Other": 1})
    assert held_at(after, "Aa") == journal.Elected(("Aa",), False, "Other", {}), "taken since the vote"
    # The same with an answer that came ahead of its election: it arrives, then another node takes the name.
    ahead = [born("Aa"), born("Ab"), journal.Proposed("sprout/Aa/0", ("Shared", "Shared", "Other"))]
    before, after = state_of(ahead, **TWO_LEVELS), state_of([*ahead, born("Ab", "Shared")], **TWO_LEVELS)
    assert held_at(before, "Aa").winner == "Shared" and held_at(after, "Aa").winner == "Other"


def held_at(state, *path) -> journal.Elected | None:
    return hold(state.tree, state.tree.find(path), state.config.seed, reuse_ballots=True)


def test_proposals_are_decoded_under_the_grammar_of_names():
    requests, proposals = asked(request_at("Science"))
    for _, request in requests:
        assert request.regex is not None and request.choices is None
        grammar = re.compile(request.regex)
        number = request.regex.partition("\\")[0]
        assert grammar.fullmatch(f"{number}. Quantum Field Theory")
        for text in ("Quantum Theory", f"{number}. Web 2", f"{number}. One Two Three Four", f"{number}. "):
            assert not grammar.fullmatch(text)
    assert proposals.num_invalid == 0
