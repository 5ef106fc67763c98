"""What one refusal teaches: sentences of many servers, and what is sent after them. No server, no client."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai.capabilities import Capabilities
from bohdi_ray.engines.openai.fields import body_of
from bohdi_ray.engines.openai.lessons import learn
from bohdi_ray.engines.openai.troubles import trouble_in, trouble_of
from bohdi_ray.records import GenerationRequest, SamplingSpec

MODEL = OpenAIModel(name="far", kind="openai", model="m", base_url="http://far/v1", system_prompt="Be brief.")
LABEL = GenerationRequest("a", "judge", "Which one?", SamplingSpec(0.7, 0.8, 100, 5), choices=("A", "B"))


def after(body, status=400):
    """Which fields differ in the next request, with their values; None where nothing was learned."""
    learned = Capabilities()
    sent = body_of(LABEL, MODEL, learned)
    text = body if isinstance(body, str) else json.dumps(body)
    if not learn(trouble_of(status, text, prompt=LABEL.prompt), sent, LABEL, learned, "far"):
        assert body_of(LABEL, MODEL, learned) == sent
        return None
    now = body_of(LABEL, MODEL, learned)
    assert learned.notices
    return {name: now.get(name) for name in sent.keys() | now.keys() if now.get(name) != sent.get(name)}


WITHOUT = {
    "temperature": (
        "invalid temperature: only 1 is allowed for this model",
        "Temperature must be set to 1.0 for this model",
        "`temperature` may only be set to 1 when thinking is enabled",
        "This model only supports temperature=1",
        "temperature is fixed at 1",
        "The parameter temperature is not configurable",
        "temperature is invalid. Only the default value is supported.",
        "Unsupported parameter(s): temperature",
        "'temperature' does not support 0.7 with this model",
        "temperature is no longer supported",
        {"error": {"message": "Invalid value", "param": "temperature", "code": "unsupported_value"}},
        {"error": {"message": "Bad request", "param": "temperature", "code": "unsupported_parameter"}},
        {"message": "Validation failed", "errors": {"temperature": ["Unknown field."]}},
        {"error": {"message": {"temperature": ["Unknown field."]}}},
    ),
    "seed": (
        {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted", "type": "value_error.extra"}]},
        {"detail": "Unsupported parameter: seed"},
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        "Additional properties are not allowed ('seed' was unexpected)",
        'json: unknown field "seed"',
        "Unrecognized key(s) in object: 'seed'",
        "ChatCompletionRequest.__init__() got an unexpected keyword argument 'seed'",
        "Invalid parameter: seed",
        "The seed parameter is not supported. Supported parameters: temperature, top_p, max_tokens, logprobs",
        "[{'type': 'extra_forbidden', 'loc': ['body', 'seed'], 'msg': 'Extra inputs are not permitted'}]",
        [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}],
        {"error": {"message": "Provider returned error", "metadata": {"raw": '{"detail": "seed is not supported"}'}}},
        {"error": {"message": 'litellm.BadRequestError: {"error": {"message": "Unknown parameter: \'seed\'."}}'}},
        {"success": False, "error": {"issues": [], "message": "seed: not implemented"}},
    ),
    "logprobs": (
        {"error": {"message": "You are not allowed to request logprobs from this model", "param": None, "code": None}},
        "Log probabilities are not available for this model",
        "you do not have permission to use logprobs",
        "logprobs is disabled on this deployment",
        "This model doesn't support logprobs",
    ),
    "top_p": (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "Only one of temperature and top_p may be given",
        "temperature and topP are mutually exclusive",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, bodies in WITHOUT.items() for body in bodies], ids=str
)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_field_that_is_not_taken_is_left_out_and_nothing_else(name, body, status):
    gone = {"logprobs": None, "top_logprobs": None} if name == "logprobs" else {name: None}
    assert after(body, status) == gone


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("top_logprobs must be <= 5", 5),
        ("top_logprobs: must be in the range [0, 5]", 5),
        ("The maximum value for top_logprobs is 5", 5),
        ("logprobs cannot exceed 5", 5),
        ("20 top_logprobs requested, maximum 8 allowed", 8),
        ("top_logprobs > 5 is not supported", 5),
        ("Cannot request more than 5 logprobs.", 5),
        ("logprobs must be between 0 and 5", 5),
        ("Invalid value for 'top_logprobs': must be less than or equal to 5.", 5),
        ("the logprobs value of 20 is not in the supported range from 1 (inclusive) to 20 (exclusive)", 19),
        ("top_logprobs is too large", 10),
        ({"detail": [{"loc": ["body", "top_logprobs"], "type": "less_than_equal", "msg": "too many"}]}, 10),
    ],
)  # fmt: skip
def test_a_limit_of_alternatives_is_kept_to(message, limit):
    assert after(message) == {"top_logprobs": limit}


@pytest.mark.parametrize(
    "body",
    [
        "temperature must be between 0 and 0.5",
        "temperature: 0.7 is not allowed, must be less than 0.5",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 0.5, but got 0.7 instead.",
        "Invalid type for 'seed': expected an integer.",
        "Invalid parameter 'seed': expected an integer",
        "top_p must be in (0, 1]",
        "Unsupported: max_tokens_per_day",
        "unknown model; parameters: see the documentation of temperature, seed, top_p and max_tokens",
        "The model is not supported. We got temperature 0.7 and seed 5.",
        "internal error in logprobs processor",
        {"error": {"message": "The model `seed` does not exist", "param": "model", "code": "model_not_found"}},
        {"detail": [{"type": "int_parsing", "loc": ["body", "seed"], "msg": "Input should be a valid integer"}]},
        {"detail": [{"type": "missing", "loc": ["body", "stream"], "msg": "Field required", "input": {"seed": 5}}]},
        {"error": {"message": "Which one? is not permitted with temperature"}},
        {},
        [],
        "",
        "{" * 500,
    ],
    ids=str,
)
def test_anything_else_teaches_nothing(body):
    if body == {"error": {"message": "Which one? is not permitted with temperature"}}:
        assert after(body) == {"temperature": None}  # the prompt is cut out, what is said of the field stays
        return
    assert after(body) is None


def test_two_complaints_about_one_field_move_it_one_step():
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    both = {"message": message, "error": {"message": f"{message} See the docs.", "param": "max_tokens"}}
    assert after(both) == {"max_tokens": None, "max_completion_tokens": 100}


def test_several_fields_of_one_refusal_are_learned_at_once():
    detail = [
        {"type": "extra_forbidden", "loc": ["body", n], "msg": "Extra inputs are not permitted"}
        for n in ("seed", "top_p")
    ]
    assert after({"detail": detail}) == {"seed": None, "top_p": None}
    assert after("anthropic does not support parameters: ['seed', 'top_p']") == {"seed": None, "top_p": None}


@pytest.mark.parametrize(
    "message",
    [
        "System role not supported",
        "Only user and assistant roles are supported!",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Invalid role: system",
        "system messages are not supported by this model",
    ],
)
def test_a_missing_system_role_is_understood(message):
    changed = after(message, 500)
    assert changed.keys() == {"messages"} and [m["role"] for m in changed["messages"]] == ["user"]


def test_the_errors_of_a_200_are_told_from_its_answers():
    answer = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "error": None}
    assert trouble_in(answer, json.dumps(answer)) is None
    assert trouble_in({**answer, "error": {}}, "") is None
    for body, kind in (
        ({"error": {"message": "busy, try again later"}}, "busy"),
        ({"error": {"message": "x", "code": 402}}, "account"),
        ({"error": {"message": "maximum context length is 8"}}, "too_long"),
        ({"error": {"message": "flagged", "code": "403"}}, "flagged"),
        ({"error": {"message": "x"}}, "refused"),
    ):
        assert trouble_in(body, json.dumps(body)).kind == kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2s"}, 2),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"date": formatdate(1e9, usegmt=True), "retry-after": formatdate(1e9 + 30, usegmt=True)}, 30),
        ({"retry-after": formatdate(1e9, usegmt=True)}, 0),
        ({"retry-after": "Wed, 99 Foo"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_a_pause_is_read_in_every_form(headers, seconds):
    assert trouble_of(429, "{}", headers).asks_s == seconds


def test_a_quota_that_comes_back_is_waited_for_and_one_that_is_used_up_is_not():
    google = {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}],
        }
    }
    trouble = trouble_of(429, json.dumps([google]))
    assert trouble.kind == "busy" and trouble.asks_s == 34
    used_up = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    assert trouble_of(429, json.dumps(used_up)).kind == "account"
