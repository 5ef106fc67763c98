"""Settings of reasoning: who wins, and what is refused."""

import pytest

from bohdi_ray.config.loading import dump_config, parse_config
from bohdi_ray.errors import ConfigErrors

SOURCE = {"name": "a", "model": "org/a"}
TARGET = {"name": "t", "model": "org/t"}


def config(source=None, target=None, **sections):
    return parse_config(
        {"run_dir": "x", "sources": [SOURCE | (source or {})], "target": TARGET | (target or {}), **sections}
    )


def refused(*args, **sections) -> list:
    with pytest.raises(ConfigErrors) as caught:
        config(*args, **sections)
    assert all(error.rule and error.remedy for error in caught.value.errors)
    return caught.value.errors


def test_a_roles_variables_lie_on_top_of_the_models():
    variables = {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}}
    judge = {"judge": {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_max_tokens": 7}}
    source = config(variables | {"sampling": judge}).sources[0]
    assert source.sampling_of("answer").chat_template_kwargs == variables["chat_template_kwargs"]
    assert source.sampling_of("judge").chat_template_kwargs == {"enable_thinking": False, "reasoning_effort": "low"}
    assert source.sampling_of("judge").reasoning_max_tokens == 7
    assert source.sampling_of("answer").reasoning_max_tokens is None


@pytest.mark.parametrize(
    "name",
    ["messages", "tokenize", "add_generation_prompt", "tools", "chat_template", "return_dict", "bos_token", "no name"],
)
def test_what_a_request_sets_itself_is_no_variable(name):
    (error,) = refused({"chat_template_kwargs": {name: True}})
    assert error.field == "sources.0.chat_template_kwargs" and name in str(error)
    (error,) = refused(None, {"sampling": {"answer": {"chat_template_kwargs": {name: 1}}}})
    assert error.field == "target.sampling.answer.chat_template_kwargs"


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"sampling": {"answer": {"reasoning_max_tokens": 100}}}, "target.sampling.answer.reasoning_max_tokens"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "target.chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"thinking": True}}, "target.chat_template_kwargs.thinking"),
    ],
)
def test_a_target_that_learns_not_to_be_asked_to_think_is_not_asked_to(target, field):
    (error,) = refused(None, target)
    assert error.field == field and "training.reasoning" in error.remedy
    assert config(None, target, training={"reasoning": "keep"}).training.reasoning == "keep"


def test_a_resolved_configuration_keeps_all_of_it():
    target = {"sampling": {"answer": {"reasoning_max_tokens": 0, "chat_template_kwargs": {"enable_thinking": False}}}}
    made = config({"chat_template_kwargs": {"a": [1, {"b": None}]}}, target)
    import yaml

    assert parse_config(yaml.safe_load(dump_config(made))) == made


def test_room_for_reasoning_counts_in_the_window(tmp_path, make_model):
    from bohdi_ray.preflight import preflight

    folder = str(make_model())
    engine = {"engine": {"max_model_len": 1024}}
    sampling = {
        "sampling": {"question": {"max_tokens": 100, "reasoning_max_tokens": 1000}, "answer": {"max_tokens": 100}}
    }
    found = preflight(
        config(engine | {"model": folder} | sampling, {"model": folder, "engine": {"max_model_len": 1024}}), None
    )
    fields = {error.field: error.value for error in found.problems}
    assert (
        fields["sources.0.sampling.question.max_tokens"] == 1100
        and "sources.0.sampling.answer.max_tokens" not in fields
    )
