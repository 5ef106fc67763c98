"""Judging: who judges what, how orders cancel position bias, and what happens when a judge cannot."""

import asyncio
import math

import numpy as np
import pytest
from fakes import ScriptedModels, presented_answers

from bohdi_ray.config import JUDGES
from bohdi_ray.errors import PromptTooLong
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.judges import judge_answers
from bohdi_ray.harvest.judges.judging import Ballot, NobodyJudged, best_of, label_logprobs, rotations
from bohdi_ray.harvest.judges.likelihood import mean_ranks
from bohdi_ray.harvest.judges.others import odds_scores
from bohdi_ray.questions.source import Question
from bohdi_ray.records import Candidate, EngineReply

TOO_LONG = PromptTooLong("x", 9000, 8192)
QUESTION = "Why is the sky blue at noon and red in the evening?"
ALL = ("alpha", "beta", "gamma", "student")


def candidates(*models):
    return tuple(Candidate(m, 0, f"The answer that {m} gave to the question.", 9, "stop", None) for m in models)


def verdict_of(ticket, models, plan, *authors, leader="alpha"):
    return asyncio.run(judge_answers(ticket, Question(leader, "", QUESTION), candidates(*authors), models, plan))


def done(**fields):
    return EngineReply("id", "alpha", 0, finish_reason="stop", **fields)


class BiasedJudges(ScriptedModels):
    """Judges that care for the slot alone: probabilities 0.55, 0.25, 0.15, 0.05."""

    async def ask(self, model, request):
        if request.role == "judge":
            weights = dict(zip("ABCD", (0.55, 0.25, 0.15, 0.05), strict=True))
            logprobs = {label: math.log(weights[label]) for label in request.choices}
            self.queue_completion(role="judge", text="A", choice_logprobs=logprobs)
        return await super().ask(model, request)


def test_one_order_shows_a_slots_bias_and_as_many_as_answers_cancel_it(make_plan, make_ticket):
    one = verdict_of(make_ticket(), BiasedJudges(), make_plan(judge={"orders": 1}), *ALL).verdict
    assert one.winner == one.orders[0][0]
    assert one.margin == pytest.approx(0.3)
    four = verdict_of(make_ticket(), BiasedJudges(), make_plan(judge={"orders": 4}), *ALL).verdict
    assert four.margin == 0 and four.scores == pytest.approx(dict.fromkeys(ALL, 0.25))
    assert four.winner != "student"


def test_every_rotation_puts_every_answer_into_every_slot_once():
    orders = rotations(ALL, 4, np.random.default_rng(0))
    assert all({order[slot] for order in orders} == set(ALL) for slot in range(4))


@pytest.mark.parametrize(("num_orders", "num_made"), [(1, 1), (2, 2), (4, 4), (9, 4)])
def test_more_orders_than_answers_would_repeat_and_are_not_asked(num_orders, num_made):
    assert len(set(rotations(ALL, num_orders, np.random.default_rng(0)))) == num_made


def test_the_leader_judges_all_eligible_answers_with_constrained_labels(make_plan, make_ticket):
    models = ScriptedModels()
    verdict = verdict_of(make_ticket(), models, make_plan(), "beta", "student", leader="gamma").verdict
    ((who, request),) = models.requests
    assert (who, request.choices, request.role) == ("gamma", ("A", "B"), "judge")
    assert len(presented_answers(request.prompt)) == 2
    assert (verdict.policy, verdict.judge, verdict.order_judges) == ("leader", "gamma", ("gamma",))
    assert set(verdict.order_logprobs[0]) == {"beta", "student"}


def test_the_prompt_shows_answers_in_the_recorded_order_and_names_no_model(make_plan, make_ticket):
    models = ScriptedModels()
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"orders": 4}), *ALL).verdict
    texts = {c.model: c.text for c in candidates(*ALL)}
    for (_, request), order in zip(models.requests, verdict.orders, strict=True):
        assert presented_answers(request.prompt) == [texts[model] for model in order]
        assert not any(model in request.prompt.replace(texts[model], "") for model in ALL)


def test_the_likeliest_label_on_average_wins_and_the_margin_is_kept(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_judgement(prefer=lambda text: 3.0 if "beta" in text else 1.0, times=2)
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"orders": 2}), "alpha", "beta").verdict
    assert verdict.winner == "beta" and verdict.margin == pytest.approx(0.5)
    assert verdict.scores == pytest.approx({"alpha": 0.25, "beta": 0.75})


def test_with_others_no_source_sees_its_own_answer(make_plan, make_ticket):
    models = ScriptedModels()
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "others", "orders": 3}), *ALL).verdict
    assert len(models.requests) == 9 and verdict.judge is None
    for who, request in models.requests:
        assert who != "student" and len(presented_answers(request.prompt)) == 3
        assert not any(who in text for text in presented_answers(request.prompt))
    assert all(who not in order for who, order in zip(verdict.order_judges, verdict.orders, strict=True))


def test_with_others_an_answer_all_its_judges_prefer_wins(make_plan, make_ticket):
    for best in ALL:
        models = ScriptedModels()
        models.queue_judgement(prefer=lambda text, best=best: 5.0 if best in text else 1.0, times=3)
        verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "others"}), *ALL).verdict
        assert verdict.winner == best and verdict.margin > 0


def test_with_others_one_certain_judge_does_not_outvote_two():
    ballots = [
        Ballot("alpha", ("beta", "student"), {"beta": 0.0, "student": -50.0}),
        Ballot("gamma", ("beta", "student"), {"beta": math.log(0.01), "student": math.log(0.99)}),
        Ballot("delta", ("beta", "student"), {"beta": math.log(0.01), "student": math.log(0.99)}),
    ]
    scores = odds_scores(ballots, ("beta", "student"))
    assert scores["student"] > scores["beta"] == pytest.approx(-scores["student"])


def test_with_others_chance_scores_zero_whatever_the_number_of_answers():
    for n in (2, 3, 5):
        models = tuple("abcde"[:n])
        scores = odds_scores([Ballot("judge", models, dict.fromkeys(models, -math.log(n)))], models)
        assert scores == pytest.approx(dict.fromkeys(models, 0.0))


def test_with_others_answers_nobody_may_compare_tie(make_plan, make_ticket):
    models = ScriptedModels(sources=("alpha", "beta"))
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "others"}), "alpha", "beta").verdict
    assert models.requests == [] and verdict.scores == {"alpha": 0.0, "beta": 0.0} and verdict.margin == 0


def test_with_likelihood_everyone_ranks_what_it_did_not_write(make_plan, make_ticket):
    models = ScriptedModels()
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "likelihood"}), *ALL).verdict
    assert len(models.requests) == 12
    assert all(request.prompt == QUESTION and who not in request.answer for who, request in models.requests)
    assert verdict.order_judges == ALL and verdict.judge is None
    ranks = mean_ranks(list(verdict.order_logprobs))
    assert verdict.scores == pytest.approx({model: -ranks[model] for model in ALL})
    assert verdict.winner == min(ranks, key=ranks.__getitem__) or verdict.margin == 0


def test_with_likelihood_bytes_not_tokens_or_length_count(make_plan, make_ticket):
    models = ScriptedModels()
    short, long = {"logprob": -10.0, "num_bytes": 10}, {"logprob": -30.0, "num_bytes": 100}
    for who in ("beta", "gamma"):  # neither wrote one of the two
        models.queue_completion(model=who, containing=QUESTION, **short)
        models.queue_completion(model=who, containing=QUESTION, **long)
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "likelihood"}), "alpha", "student").verdict
    assert verdict.winner == "student" and verdict.order_logprobs[1] == {"alpha": -1.0, "student": -0.3}


def test_with_consensus_the_sources_mean_probability_decides_and_authors_have_no_say(make_plan, make_ticket):
    models = ScriptedModels()
    verdict = verdict_of(make_ticket(), models, make_plan(judge={"kind": "consensus"}), *ALL).verdict
    asked = [(who, request.answer) for who, request in models.requests]
    assert len(asked) == 9 and all(who != "student" and who not in answer for who, answer in asked)
    assert verdict.order_judges == ("alpha", "beta", "gamma") and verdict.judge is None
    for model in ALL:
        by_others = [math.exp(row[model]) for row in verdict.order_logprobs if model in row]
        assert verdict.scores[model] == pytest.approx(np.mean(by_others))


def test_one_source_that_knows_outweighs_two_that_merely_prefer(make_plan, make_ticket):
    plans = {policy: make_plan(judge={"kind": policy}) for policy in ("consensus", "likelihood")}
    winners = {}
    for policy, plan in plans.items():
        models = ScriptedModels(sources=("alpha", "beta", "gamma"))
        # Per byte: alpha is sure of the student's answer, beta and gamma like the other one a little better.
        for who, of_delta, of_student in (("alpha", -3.0, -0.01), ("beta", -1.0, -1.1), ("gamma", -1.0, -1.1)):
            models.queue_completion(model=who, containing=QUESTION, logprob=of_delta * 10, num_bytes=10)
            models.queue_completion(model=who, containing=QUESTION, logprob=of_student * 10, num_bytes=10)
        if policy == "likelihood":
            models.queue_completion(model="student", containing=QUESTION, logprob=-10.0, num_bytes=10)
        winners[policy] = verdict_of(make_ticket(), models, plan, "delta", "student").verdict.winner
    assert winners == {"consensus": "student", "likelihood": "delta"}


def test_ranks_within_a_tie_are_averaged():
    assert mean_ranks([{"a": 1.0, "b": 1.0, "c": 0.0}]) == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert mean_ranks([{"a": 2.0, "b": 1.0}, {"b": 5.0, "c": 1.0}]) == {"a": 1.0, "b": 1.5, "c": 2.0}


def test_the_target_wins_only_alone():
    rng = np.random.default_rng(0)
    assert best_of({"student": 0.5, "alpha": 0.4}, "student", rng) == ("student", pytest.approx(0.1))
    assert best_of({"student": 0.5, "alpha": 0.5 - 1e-12}, "student", rng) == ("alpha", 0.0)
    assert best_of({"student": 0.5, "alpha": 0.5, "beta": 0.1}, "student", rng) == ("alpha", 0.0)


def test_labels_are_normalised_and_missing_ones_are_improbable():
    logprobs = label_logprobs(done(text="A", choice_logprobs={"A": -1.0, "B": -1.0}), 3)
    assert logprobs == pytest.approx([-math.log(2), -math.log(2), -50.0], abs=0.5)
    assert label_logprobs(done(text="A", choice_logprobs={"A": 0.0, "B": -math.inf}), 2) == pytest.approx([0.0, -50.0])


def test_a_judge_without_log_probabilities_gives_its_label_probability_one():
    assert label_logprobs(done(text="Answer B."), 2) == [-50.0, 0.0]


@pytest.mark.parametrize("text", ["", "both", "C", "I cannot decide."])
def test_a_judge_that_names_no_label_fails_the_ticket(make_plan, make_ticket, text):
    models = ScriptedModels()
    models.queue_completion(role="judge", text=text, choice_logprobs=None)
    with pytest.raises(NobodyJudged) as caught:
        verdict_of(make_ticket(), models, make_plan(), "alpha", "student")
    assert caught.value.reason == "judge_unreadable"
    assert caught.value.counts == {"judge_requests": 1, "judge_rejected:unreadable": 1}


@pytest.mark.parametrize("kind", [kind for kind, judge in JUDGES.items() if judge.names_letter or judge.scores_answers])
def test_answers_no_judge_can_hold_fail_the_ticket(make_plan, make_ticket, kind):
    models, judge = ScriptedModels(), {"kind": kind, **({"orders": 2} if JUDGES[kind].names_letter else {})}
    models.queue_completion(role="judge", times=100, error=TOO_LONG)
    outcome, sample = asyncio.run(harvest_one(make_ticket(), models, make_plan(judge=judge)))
    assert (sample, outcome.failure) == (None, "judge_prompt_too_long")
    assert outcome.counts["judge_rejected:prompt_too_long"] == outcome.counts["judge_requests"] > 0


@pytest.mark.parametrize("policy", ["others", "likelihood", "consensus"])
def test_a_judge_that_cannot_hold_the_answers_abstains(make_plan, make_ticket, policy):
    models = ScriptedModels()
    models.queue_completion(role="judge", model="beta", times=100, error=TOO_LONG)
    outcome, sample = asyncio.run(harvest_one(make_ticket(), models, make_plan(judge={"kind": policy})))
    assert sample is not None and "beta" not in sample.verdict.order_judges
    assert set(sample.verdict.scores) == set(ALL) and outcome.counts["judge_rejected:prompt_too_long"] > 0


def test_a_judge_that_reads_only_some_orders_abstains(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_completion(role="judge", error=TOO_LONG)
    with pytest.raises(NobodyJudged):
        verdict_of(make_ticket(), models, make_plan(judge={"orders": 4}), *ALL)
