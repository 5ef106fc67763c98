"""Questions for rehearsal: a source asks, version 0 of the target answers greedily, and only sure answers become
rows."""

import asyncio
import math

import pytest
from fakes import ScriptedModels

from bohdi_ray.errors import PromptTooLong, RequestQuarantined, SourceLeftOut
from bohdi_ray.harvest.rehearsal import rehearse_one
from bohdi_ray.records import ScoreRequest, question_hash, rehearsal_ticket, ticket_id

ANSWER = "Because light of short waves is scattered more than light of long ones."


def ask(models, plan, index=0):
    ticket = rehearsal_ticket(3, index, ("Science", "Physics", "Optics"))
    return asyncio.run(rehearse_one(ticket, models, plan))


def sure(probability, num_tokens=10, **fields):
    """A target that answers so, sure as this of each token."""
    models = ScriptedModels()
    models.queue_completion(model="student", role="answer", text=ANSWER, num_tokens=num_tokens, **fields)
    models.queue_completion(model="student", role="answer", logprob=num_tokens * math.log(probability))
    return models


def test_a_sure_answer_becomes_a_row(make_plan):
    models = sure(0.95)
    row = ask(models, make_plan(training={"rehearsal": {"min_probability": 0.9}}))
    assert (row.answer, row.rejected, row.replay_id) == (ANSWER, None, "replay-r0003-t00000")
    assert row.probability == pytest.approx(0.95) and row.path == ("Science", "Physics", "Optics")
    (leader, question), (answerer, answer), (scorer, score) = models.requests
    assert leader == row.leader in models.sources and question.role == "question"
    assert answerer == scorer == "student" and answer.sampling.temperature == 0
    assert isinstance(score, ScoreRequest) and score.answer == ANSWER
    assert score.prompt == answer.prompt and row.question in answer.prompt


def test_tokens_of_question_and_answer_are_counted_whatever_becomes_of_them(make_plan):
    for probability in (0.95, 0.5):
        row = ask(sure(probability, num_tokens=10), make_plan())
        assert row.num_tokens == 10 + len(row.question) // 4 + 1
    models = ScriptedModels()
    models.queue_completion(role="question", times=9, text="No.", num_tokens=2)
    plan = make_plan()
    assert ask(models, plan).num_tokens == 2 * plan.config.harvest.question_attempts


def test_an_unsure_answer_is_told_and_no_row(make_plan):
    row = ask(sure(0.85), make_plan(training={"rehearsal": {"min_probability": 0.9}}))
    assert row.rejected == "unsure" and row.probability == pytest.approx(0.85) and row.answer == ANSWER


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"finish_reason": "length"}, "truncated"),
        ({"text": "Yes."}, "too_short"),
        ({"error": PromptTooLong("student", 9, 8)}, "prompt_too_long"),
        ({"raises": RequestQuarantined("id", "part.parquet")}, "request_quarantined"),
    ],
)
def test_an_answer_that_is_none_is_no_row_and_nobody_is_asked_how_sure_it_is(make_plan, fields, reason):
    models = ScriptedModels()
    models.queue_completion(model="student", role="answer", **fields)
    row = ask(models, make_plan())
    assert row.rejected == reason
    assert not any(isinstance(request, ScoreRequest) for _, request in models.requests)


def test_a_question_that_is_none_is_no_row(make_plan):
    models = ScriptedModels()
    models.queue_completion(role="question", times=9, text="No.")
    assert ask(models, make_plan()).rejected == "invalid_question"


def test_held_out_questions_are_not_rehearsed(make_plan):
    plan = make_plan(harvest={"heldout_fraction": 0.5})
    rows = [ask(ScriptedModels(), plan, index) for index in range(40)]
    for row in rows:
        assert (row.rejected == "heldout") == (int(question_hash(row.question)[:13], 16) / 16**13 < 0.5)
    assert 5 < sum(row.rejected == "heldout" for row in rows) < 35


def test_rehearsal_draws_and_seeds_are_no_tickets(make_plan):
    assert rehearsal_ticket(0, 1, ()).ticket_id != ticket_id(0, 0, 1)
    first, second = ScriptedModels(), ScriptedModels()
    assert ask(first, make_plan()) == ask(second, make_plan())
    assert ask(first, make_plan(), index=1).question != ask(second, make_plan()).question


def test_a_source_that_is_left_out_is_the_callers_business(make_plan):
    models = ScriptedModels()
    models.queue_completion(role="question", raises=SourceLeftOut("alpha"))
    with pytest.raises(SourceLeftOut):
        ask(models, make_plan())
