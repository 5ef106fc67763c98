"""Sources of questions: one for samples and for rehearsal, and what they say where there is no question."""

import asyncio

import pytest
from fakes import ScriptedModels

from bohdi_ray import questions
from bohdi_ray.errors import PromptTooLong, RequestQuarantined, RequestRefused
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.rehearsal import rehearse_one
from bohdi_ray.questions import question_for
from bohdi_ray.questions.source import Question


def asked(models, plan, ticket):
    return asyncio.run(question_for(ticket, models, plan))


def test_a_ticket_gets_the_same_question_however_often_it_is_asked_for(make_plan, make_ticket):
    one, other = (asked(ScriptedModels(), make_plan(), make_ticket(3)) for _ in range(2))
    assert one == other and one.text and one.failure is None and one.refused == ()
    assert one.counts == {"question_retries": 0, "question_requests": 1} and one.num_tokens > 0
    assert asked(ScriptedModels(), make_plan(), make_ticket(4)).text != one.text


def test_what_the_gates_refuse_is_told_and_paid_for(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_completion(role="question", times=2, text="No.", num_tokens=2)
    found = asked(models, make_plan(harvest={"question_attempts": 2}), make_ticket())
    assert (found.text, found.failure, found.refused) == ("", "invalid_question", ("too_short", "too_short"))
    assert found.num_tokens == 4 and found.leader in models.sources
    assert found.counts == {"question_retries": 1, "question_requests": 2, "question_rejected:too_short": 2}


@pytest.mark.parametrize(
    ("fields", "failure", "quarantined"),
    [
        ({"error": PromptTooLong("x", 9000, 8192)}, "question_prompt_too_long", None),
        ({"error": RequestRefused("x")}, "question_request_failed", None),
        ({"raises": RequestQuarantined("x", "part-7")}, "request_quarantined", "part-7"),
    ],
)
def test_a_request_that_cannot_be_served_is_not_asked_again(make_plan, make_ticket, fields, failure, quarantined):
    models = ScriptedModels()
    models.queue_completion(role="question", **fields)
    found = asked(models, make_plan(harvest={"question_attempts": 3}), make_ticket())
    assert (found.failure, found.quarantined, found.text) == (failure, quarantined, "")
    assert found.counts["question_requests"] == 1


def test_samples_and_rehearsal_ask_the_runs_source_of_questions(make_plan, make_ticket, monkeypatch):
    async def listed(ticket, models, plan, rng):
        return Question("beta", "from a list", f"What is number {int(rng('number').integers(10**6))} of this list?")

    monkeypatch.setitem(questions.SOURCE_OF, "asked", listed)
    models, plan, ticket = ScriptedModels(), make_plan(), make_ticket()
    outcome, sample = asyncio.run(harvest_one(ticket, models, plan))
    row = asyncio.run(rehearse_one(ticket, models, plan))
    assert (sample.question, sample.leader, sample.style) == (row.question, "beta", "from a list")
    assert sample.question.startswith("What is number") and outcome.leader == row.leader == "beta"
    assert not any(request.role == "question" for _, request in models.requests)
