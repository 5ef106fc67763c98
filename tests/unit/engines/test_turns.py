"""A conversation as one text, and what renders it or shows it."""

from __future__ import annotations

import pytest

from bohdi_ray.config.models import OpenAIModel
from bohdi_ray.engines.chat.template_trial import ChatShape
from bohdi_ray.engines.chat.turns import Turn, conversation, shown, turns_of
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.fields import body_of
from bohdi_ray.engines.prompts import load_templates
from bohdi_ray.records import GenerationRequest, SamplingSpec

TALK = (Turn("user", "Hello"), Turn("assistant", "Hi.\n\nYou?"), Turn("user", "Why?"))
WITH_SYSTEM = (Turn("system", "Be brief."), *TALK)


@pytest.mark.parametrize("turns", [TALK, WITH_SYSTEM, (Turn("system", "S"), Turn("user", "U")), (Turn("user", ""),)])
def test_what_is_written_is_read(turns):
    assert turns_of(conversation(turns)) == turns


def test_a_single_question_is_its_text():
    assert conversation([Turn("user", "Why?")]) == "Why?" == shown("Why?")
    assert turns_of("User: Why?") == (Turn("user", "User: Why?"),)


def roles(shape: ChatShape, system: str | None, turns) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in shape.messages(system, conversation(turns))]


def test_a_prompts_own_system_turn_takes_the_place_of_the_models():
    assert roles(ChatShape(), "You are a tutor.", TALK)[0] == ("system", "You are a tutor.")
    assert roles(ChatShape(), "You are a tutor.", WITH_SYSTEM) == [(turn.role, turn.text) for turn in WITH_SYSTEM]
    folded = roles(ChatShape(folded=True), "You are a tutor.", WITH_SYSTEM)
    assert folded == [("user", "Be brief.\n\nHello"), *((turn.role, turn.text) for turn in TALK[1:])]
    assert roles(ChatShape(), None, [Turn("user", "Why?")]) == [("user", "Why?")]


def test_a_server_is_sent_the_turns():
    model = OpenAIModel.model_validate({"name": "r", "kind": "openai", "model": "m", "base_url": "http://host/v1"})
    request = GenerationRequest("id", "answer", conversation(WITH_SYSTEM), SamplingSpec(0.5, 1.0, 9, 1))
    body = body_of(request, model, Capabilities())
    assert body["messages"] == [{"role": turn.role, "content": turn.text} for turn in WITH_SYSTEM]


def test_templates_change_the_last_turn_alone_and_a_judge_reads_the_whole(tmp_path):
    (tmp_path / "answer.jinja").write_text("Answer in one line: {{ question }}")
    templates = load_templates(str(tmp_path))
    asked = templates.render_answer(conversation(TALK))
    assert turns_of(asked) == (*TALK[:2], Turn("user", "Answer in one line: Why?"))
    assert "User: Hello\n\nAssistant: Hi.\n\nYou?\n\nUser: Why?" in templates.render_judge(
        conversation(TALK), ["a", "b"]
    )
