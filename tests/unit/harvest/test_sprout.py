"""Elections' proposals: the same prompt for all, constrained names, seeds that depend on the election alone."""

import asyncio
import math
from dataclasses import replace

import pytest
from fakes import ScriptedModels

from bohdi_ray.errors import EngineFailed, PromptTooLong, RequestQuarantined, SourceLeftOut
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.languages.name_grammar import name_regex
from bohdi_ray.records import EngineReply, ScoreRequest, SproutRequest


def request_at(path=(), election=0, leaf=False):
    return SproutRequest(f"sprout-{'-'.join(path)}-{election}", path, election, leaf)


def run(request, models, plan):
    return asyncio.run(sprout(request, models, plan))


def test_every_source_proposes_n_names_on_one_prompt(make_plan):
    models = ScriptedModels()
    proposals = run(request_at(("Science",)), models, make_plan(sprout={"proposals_per_source": 4}))
    assert [model for model, _ in models.requests] == ["alpha"] * 4 + ["beta"] * 4 + ["gamma"] * 4
    assert len({request.prompt for _, request in models.requests}) == 1
    assert len({request.sampling.seed for _, request in models.requests}) == 12
    assert len({request.request_id for _, request in models.requests}) == 12
    assert [request.regex for _, request in models.requests] == [name_regex(k) for k in (1, 2, 3, 4)] * 3
    assert {request.sampling.top_p for _, request in models.requests} == {0.95}
    assert len(proposals.names) == 12 and proposals.num_invalid == 0 and proposals.num_tokens > 0
    assert proposals.model_tokens.keys() == {"sprout/alpha", "sprout/beta", "sprout/gamma"}
    assert sum(proposals.model_tokens.values()) == proposals.num_tokens


@pytest.mark.parametrize(
    ("path", "leaf", "level"),
    [((), False, "main domain"), (("A",), False, "secondary domain"), (("A", "B"), True, "sub-domain")],
)
def test_the_wanted_level_is_named(make_plan, path, leaf, level):
    models = ScriptedModels()
    run(request_at(path, leaf=leaf), models, make_plan())
    assert f"a {level}" in models.requests[0][1].prompt


def test_proposals_depend_on_the_request_alone(make_plan):
    plan, models = make_plan(), ScriptedModels()
    first = run(request_at(("Science",), 3), models, plan)
    run(request_at(("Art",)), models, plan)
    assert run(request_at(("Science",), 3), models, plan) == first
    assert run(request_at(("Science",), 4), models, plan).names != first.names


def test_later_elections_take_names_from_half_of_the_letters_the_same_for_all_sources(make_plan):
    plan, regexes = make_plan(sprout={"proposals_per_source": 1}), []
    for election in range(1, 9):
        models = ScriptedModels()
        run(request_at(("Science",), election), models, plan)
        ((regex,),) = [{request.regex for _, request in models.requests}]
        regexes.append(regex)
    assert len(set(regexes)) == 8 and all(len(regex.split("]")[0].split("[")[1]) == 13 for regex in regexes)


def test_without_vary_initials_every_election_takes_names_from_all_letters(make_plan):
    plan = make_plan(sprout={"proposals_per_source": 1, "vary_initials": False})
    for election in (0, 3):
        models = ScriptedModels()
        run(request_at(("Science",), election), models, plan)
        assert {request.regex for _, request in models.requests} == {name_regex(1)}


def test_invalid_names_are_counted_and_dropped(make_plan):
    models = ScriptedModels()
    for text in ("unknown", "Topic 42", "one two three four", "", "- fluid dynamics."):
        models.queue_completion(model="alpha", role="sprout", text=text)
    proposals = run(request_at(), models, make_plan())
    assert proposals.num_invalid == 4 and len(proposals.names) == 11
    assert proposals.names[0] == "Fluid Dynamics"


def test_repeats_are_kept_as_votes(make_plan):
    models = ScriptedModels()
    models.queue_completion(role="sprout", times=15, text="Optics")
    assert run(request_at(), models, make_plan()).names == ("Optics",) * 15


class Opinions(ScriptedModels):
    """Sources that propose "Optics" and "Zorbics", and find names as likely as `likely` says, by source and name."""

    likely: dict[tuple[str, str], float]

    async def ask(self, model, request):
        if not isinstance(request, ScoreRequest):
            self.queue_completion(role="sprout", text="Zorbics" if model == "gamma" else "Optics")
            return await super().ask(model, request)
        self.requests.append((model, request))
        number, _, name = request.answer.partition(" ")
        assert number == "1." and request.role == "sprout"
        # The entry's number alone is not sure either; a name's probability is what comes on top.
        probability = 0.5 * (self.likely.get((model, name), 1e-9) if name else 1.0)
        done = EngineReply(request.request_id, model, 0, finish_reason="stop", logprob=math.log(probability))
        return replace(done, error=PromptTooLong(model, 9, 8)) if (model, "too long") in self.likely else done


def opinions(**likely):
    models = Opinions()
    models.likely = {tuple(key.split("_", 1)): value for key, value in likely.items()}
    return models


def test_names_without_support_are_dropped_and_counted(make_plan):
    models = opinions(alpha_Optics=0.1, beta_Optics=2e-5, gamma_Optics=5e-6, gamma_Zorbics=0.9)
    proposals = run(request_at(("Science",)), models, make_plan(sprout={"min_support": 2}))
    assert proposals.names == ("Optics",) * 10 and proposals.num_unsupported == proposals.num_invalid == 5
    scored = [(model, request.answer) for model, request in models.requests if isinstance(request, ScoreRequest)]
    assert sorted(scored) == [(m, a) for m in ("alpha", "beta", "gamma") for a in ("1.", "1. Optics", "1. Zorbics")]
    assert len({request.prompt for _, request in models.requests}) == 1
    assert len({request.request_id for _, request in models.requests}) == len(models.requests)
    stricter = make_plan(sprout={"min_support": 2, "support_probability": 0.05})
    assert run(request_at(("Science",)), models, stricter).names == ()


def test_a_source_that_cannot_be_asked_supports_nothing(make_plan):
    models = opinions(alpha_Optics=0.1, beta_Optics=0.1, **{"beta_too long": 1.0})
    assert run(request_at(), models, make_plan(sprout={"min_support": 1})).names == ("Optics",) * 10
    assert run(request_at(), models, make_plan(sprout={"min_support": 2})).names == ()


def test_with_fewer_sources_than_support_needs_all_of_them_are_enough(make_plan):
    models = opinions(alpha_Optics=0.1, beta_Optics=0.1)
    models.sources = ("alpha", "beta")
    assert run(request_at(), models, make_plan(sprout={"min_support": 3})).names == ("Optics",) * 10


def test_without_min_support_nobody_is_asked(make_plan):
    models = ScriptedModels()
    run(request_at(), models, make_plan())
    assert not any(isinstance(request, ScoreRequest) for _, request in models.requests)


def test_a_prompt_too_long_costs_that_sources_proposals_only(make_plan):
    models = ScriptedModels()
    models.queue_completion(model="beta", times=5, error=PromptTooLong("beta", 9, 8))
    proposals = run(request_at(), models, make_plan())
    assert proposals.num_invalid == 5 and len(proposals.names) == 10


def test_a_request_that_is_quarantined_costs_that_proposal_only_and_is_told(make_plan):
    models = ScriptedModels()
    models.queue_completion(model="beta", raises=RequestQuarantined("id", "part-x.parquet"))
    proposals = run(request_at(), models, make_plan())
    assert proposals.num_invalid == 1 and len(proposals.names) == 14
    assert proposals.quarantined == ("part-x.parquet",)


@pytest.mark.parametrize("error", [EngineFailed("gone"), SourceLeftOut("alpha")])
def test_an_engine_failure_is_raised(make_plan, error):
    models = ScriptedModels()
    models.queue_completion(raises=error)
    with pytest.raises(type(error)):
        run(request_at(), models, make_plan())


def test_a_list_gives_every_proposal_its_own_entry_whatever_the_election(make_plan):
    text = "Here is a list:\n1. Physics\n2. Chemistry\n3. Biology\n4. Law\n5. Music"
    for election in (0, 1):
        models = ScriptedModels(sources=("alpha", "beta"))
        models.queue_completion(role="sprout", times=10, text=text)
        proposals = run(request_at(election=election), models, make_plan())
        assert proposals.names == ("Physics", "Chemistry", "Biology", "Law", "Music") * 2


def test_a_proposal_that_fails_does_not_move_the_others_to_its_entry(make_plan):
    models = ScriptedModels(sources=("alpha",))
    models.queue_completion(role="sprout", error=PromptTooLong("alpha", 9, 8))
    models.queue_completion(role="sprout", times=2, text="1. Physics\n2. Chemistry\n3. Biology")
    proposals = run(request_at(), models, make_plan(sprout={"proposals_per_source": 3}))
    assert proposals.names == ("Chemistry", "Biology")


def test_the_entry_that_the_token_limit_cut_is_no_name(make_plan):
    models = ScriptedModels(sources=("alpha",))
    models.queue_completion(role="sprout", times=2, text="1. Physics\n2. Chem", finish_reason="length")
    models.queue_completion(role="sprout", text="3. Biology", finish_reason="length")
    proposals = run(request_at(), models, make_plan(sprout={"proposals_per_source": 3}))
    assert proposals.names == ("Physics", "Physics", "Biology")
