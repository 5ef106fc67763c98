"""No reasoning in a question, an answer, a name or a rehearsal row, and all of it in the record."""

import asyncio
import math

import pytest
from fakes import ScriptedModels

from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.rehearsal import rehearse_one
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.records import SproutRequest, rehearsal_ticket

QUESTION = "Why is the sky blue at noon, and red in the evening?"
ANSWER = "Blue light is scattered more strongly than red light by the air."
THOUGHT = "<think>\nI can't help with that. Let me see.\n</think>\n\n"


def harvest(ticket, models, plan):
    return asyncio.run(harvest_one(ticket, models, plan))


def test_what_an_engine_left_in_is_no_part_of_question_or_answer(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_completion(role="question", text=THOUGHT + QUESTION, num_tokens=50)
    models.queue_completion(role="answer", times=4, text=THOUGHT + ANSWER, num_tokens=60)
    outcome, sample = harvest(make_ticket(), models, make_plan())
    assert sample.question == QUESTION and {c.text for c in sample.candidates} == {ANSWER}
    assert "Let me see." in sample.question_reasoning and all("Let me see." in c.reasoning for c in sample.candidates)
    assert {r.prompt for _, r in models.requests if r.role == "answer"} == {QUESTION}
    assert all("Let me see" not in r.prompt for _, r in models.requests)  # of the judge's too
    assert outcome.num_tokens["question"] == 50 and outcome.num_tokens["answer"] == 240  # reasoning costs


def test_what_an_engine_told_apart_is_recorded(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_completion(role="question", text=QUESTION, reasoning="Of light.\x00")
    models.queue_completion(model="alpha", role="answer", text=ANSWER, reasoning="Rayleigh.")
    _, sample = harvest(make_ticket(), models, make_plan())
    assert sample.question_reasoning == "Of light."
    assert [c.reasoning for c in sample.candidates] == ["Rayleigh.", "", "", ""]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "<think>\nLet me", "finish_reason": "length"}, "unfinished_reasoning"),
        ({"text": "<think>\nLet me see.\n</think>\n"}, "only_reasoning"),
        ({"text": "", "reasoning": "Let me", "finish_reason": "length"}, "unfinished_reasoning"),
        ({"text": " ", "reasoning": "Let me see."}, "only_reasoning"),
        ({"text": "<think></think>"}, "empty"),
        ({"text": ANSWER, "reasoning": "Let me see.", "finish_reason": "length"}, "truncated"),
    ],
)
def test_an_answer_with_nothing_behind_its_reasoning_is_rejected_with_its_own_reason(
    make_plan, make_ticket, fields, reason
):
    models = ScriptedModels()
    models.queue_completion(model="alpha", role="answer", **fields)
    outcome, sample = harvest(make_ticket(), models, make_plan())
    assert sample.candidates[0].rejected == reason and "alpha" not in sample.verdict.scores
    assert outcome.counts[f"answer_rejected:{reason}"] == 1


def test_a_question_that_never_came_is_asked_again_and_counted(make_plan, make_ticket):
    models = ScriptedModels()
    models.queue_completion(role="question", text="<think>Let me", finish_reason="length")
    models.queue_completion(role="question", text="<think>Once more.</think>" + QUESTION)
    outcome, sample = harvest(make_ticket(), models, make_plan(harvest={"question_attempts": 2}))
    assert sample.question == QUESTION and sample.question_reasoning == "Once more."
    assert outcome.counts["question_rejected:unfinished_reasoning"] == 1


def test_a_judge_without_log_probabilities_is_read_behind_its_reasoning(make_plan, make_ticket):
    models = ScriptedModels()
    text = "<think>\nA is wrong, so it is\n</think>\n\nB"
    models.queue_completion(role="judge", text=text, choice_logprobs=None)
    _, sample = harvest(make_ticket(), models, make_plan(judge={"orders": 1}))
    assert sample.verdict.winner == sample.verdict.orders[0][1]


def test_names_come_without_reasoning(make_plan):
    models = ScriptedModels()
    models.queue_completion(role="sprout", times=15, text="<think>\nA field.\n</think>\n1. Optics")
    request = SproutRequest("sprout-0", ("Science",), 0, False)
    proposals = asyncio.run(sprout(request, models, make_plan(sprout={"proposals_per_source": 5})))
    assert set(proposals.names) == {"Optics"} and len(proposals.names) == 15


def test_a_rehearsal_row_holds_no_reasoning(make_plan):
    models = ScriptedModels()
    models.queue_completion(model="student", role="answer", text=THOUGHT + ANSWER, num_tokens=10)
    models.queue_completion(model="student", role="answer", logprob=10 * math.log(0.95))
    ticket = rehearsal_ticket(3, 0, ("Science", "Physics", "Optics"))
    row = asyncio.run(rehearse_one(ticket, models, make_plan(training={"rehearsal": {"min_probability": 0.9}})))
    assert (row.answer, row.rejected) == (ANSWER, None) and models.requests[-1][1].answer == ANSWER
    models.queue_completion(model="student", role="answer", text="<think>Let me", finish_reason="length")
    assert asyncio.run(rehearse_one(ticket, models, make_plan())).rejected == "unfinished_reasoning"


def test_room_for_reasoning_goes_with_every_request_of_its_role_and_is_recorded(make_config, make_ticket):
    from bohdi_ray.harvest.plan import HarvestPlan

    config = make_config().model_dump(mode="json")
    config["sources"][0]["sampling"] = {"answer": {"reasoning_max_tokens": 500}, "judge": {"reasoning_max_tokens": 0}}
    plan = HarvestPlan.from_config(type(make_config()).model_validate(config))
    assert plan.spec("answer", "alpha", 1).reasoning_max_tokens == 500
    assert plan.spec("answer", "beta", 1).reasoning_max_tokens == 0
    _, sample = harvest(make_ticket(), ScriptedModels(), plan)
    assert sample.sampling["answer/alpha"]["reasoning_max_tokens"] == 500
    assert sample.sampling["judge/alpha"]["reasoning_max_tokens"] == 0
    assert "reasoning_max_tokens" not in sample.sampling["answer/beta"]
