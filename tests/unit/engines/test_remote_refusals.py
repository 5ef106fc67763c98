"""What one refusal teaches: sentences of many servers, and what is sent after them. No server, no client."""

from __future__ import annotations

import json
import time
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
        "temperature can only be 1 for this model",
        "only temperature=1 is supported",
        "This model requires temperature=1.0",
        "This model requires temperature to be 1",
        "temperature should be 1",
        "temperature must be 1 or unset",
        "temperature: expected 1, got 0.7",
        "Invalid value for temperature. Allowed values: [1]",
        "the only allowed value for temperature is 1",
        "temperature must be unset for reasoning models",
        "temperature must be omitted",
        "temperature must not be set for this model",
        "temperature is not applicable for this model",
        "temperature is not supported for models > 30B",
        "<400> InternalError.Algo.InvalidParameter: temperature is not supported by this model.",
        {"detail": [{"type": "literal_error", "loc": ["body", "temperature"], "msg": "Input should be 1"}]},
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
        "<400> InternalError.Algo.InvalidParameter: The parameter seed is not supported by this model.",
        "unknown field `seed`, expected one of `model`, `messages`, `temperature`, `top_p` at line 1 column 7",
        "unknown field seed, expected one of temperature, top_p, regex, response_format",
        {"title": "Bad Request", "status": 400, "detail": "Validation: Unsupported parameter(s): `seed`"},
        {"title": "Bad Request", "detail": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'no'}]"},
        {"status": "error", "message": "Bad Request", "detail": "Invalid parameter: seed"},
        {"error": {"message": "Validation error", "issues": [{"path": ["seed"], "message": "not supported"}]}},
        {"error": {"message": "Validation error", "validation_errors": [{"path": "seed", "message": "not taken"}]}},
        {"error": {"issues": [{"code": "unrecognized_keys", "keys": ["seed"], "message": "Unrecognized key"}]}},
        {"error": "invalid_request", "error_description": "seed is not supported"},
        {"error": {"message": "Error from provider", "inner_error": {"message": "seed is not supported"}}},
        {"error": {"message": "Upstream error", "upstream": {"message": "seed is not supported"}}},
        {"title": "Constraint Violation", "violations": [{"field": "seed", "description": "not supported"}]},
        {"title": "Invalid", "invalid_params": [{"name": "seed", "reason": "not supported"}]},
        {"error": {"message": "Bad request", "details": "seed is not supported"}},
        {"error": {"message": "Unknown parameter", "param": "/seed"}},
        {"error": {"message": "Unknown parameter", "parameter": "seed"}},
        {"error": {"message": "Unknown parameter", "target": "seed"}},
    ),
    "logprobs": (
        {"error": {"message": "You are not allowed to request logprobs from this model", "param": None, "code": None}},
        "Log probabilities are not available for this model",
        "you do not have permission to use logprobs",
        "logprobs is disabled on this deployment",
        "This model doesn't support logprobs",
        "logprobs is unavailable",
        "logprobs is incompatible with speculative decoding",
        "Access to logprobs denied",
        "logprobs must be false",
        "logprobs requires a paid plan",
        "logprobs can only be used with streaming",
        {"error": {"message": "Invalid value", "param": "logprobs"}},
        {"detail": [{"type": "literal_error", "loc": ["body", "logprobs"], "msg": "Input should be False"}]},
        "<400> InternalError.Algo.InvalidParameter: The parameter logprobs is not supported by this model.",
    ),
    "top_p": (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "Only one of temperature and top_p may be given",
        "temperature and topP are mutually exclusive",
        "temperature cannot be combined with top_p",
        "Conflicting parameters: temperature, top_p",
        "Use temperature, or set top_p, but not both",
        "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled or in adaptive mode.",
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
        ("the logprobs value of 20 is not in the supported range from 1 (inclusive) to 6 (exclusive)", 5),
        ("<400> InternalError.Algo.InvalidParameter: Range of top_logprobs should be [0, 5]", 5),
        ({"title": "Bad Request", "status": 400, "detail": "top_logprobs must be less than 6"}, 5),
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
        "temperature must be 0 or 1",
        "temperature must be 1 or less",
        "temperature must be 0 or positive",
        "temperature should be 0.6",
        "temperature should be [0, 1]",
        "temperature must be 1.5",
        "temperature must be 0..1",
        "temperature: expected 0 to 1",
        "Invalid temperature. Allowed values: [0, 1]",
        "Input should be 0 or 1 for temperature",
        "temperature must not be set above 0.5",
        "Do not raise temperature; one of temperature, top_p, seed and max_tokens is wrong",
        "Invalid value, expected one of `model`, `messages`, `temperature`, `top_p`",
        "Service unavailable (temperature 0.7, seed 5)",
        "The model is not supported. We got temperature 0.7 and logprobs true",
        "max_tokens must be at least 1",
        "<400> temperature: <400>",
        {"title": "Unsupported value", "detail": "temperature must be between 0 and 0.5", "param": "temperature"},
        {"title": "Bad", "violations": [{"field": "temperature", "description": "must be at most 0.5"}]},
        {"error": {"message": "no", "request": {"note": "seed is not supported"}}},
        {"error": {"message": "no", "messages": [{"role": "system", "content": "seed is not supported"}]}},
        {"error": {"message": "no", "body": {"model": "m", "messages": [], "note": "seed is not supported"}}},
        {
            "detail": [
                {
                    "msg": "no",
                    "loc": ["body"],
                    "input": {"a": ["seed is not supported"]},
                    "ctx": {"error": "seed not supported"},
                }
            ]
        },
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


LONG = GenerationRequest("a", "answer", "Which one?", SamplingSpec(0.7, 0.8, 4096, 5))
GROQ = (
    "`max_tokens` must be less than or equal to `2048`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model"
)


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (GROQ, 2048),
        ("Malformed input request: #/max_tokens: 4096 is not less or equal to 2048, please reformat your input.", 2048),
        (
            "The maximum tokens you requested exceeds the model limit of 2048. Try a value that is lower than 2048.",
            2048,
        ),
        (
            "it has a maxOutputTokens value of 4096 but the supported range is from 1 (inclusive) to 2049 (exclusive)",
            2048,
        ),
        ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 2000]", 2000),
        ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 300]", 300),
        ("Range of max_tokens should be [1,200]", 200),
        ("max_tokens must be less than 2049", 2048),
        ("max_tokens: 4096 > 2,048, which is the maximum allowed number of output tokens", 2048),
        ({"error": {"message": "Maximum tokens for this model is 2048", "param": "max_tokens"}}, 2048),
        ("max_tokens is too large", 2048),
        ("max_tokens is too large for gpt-4", 2048),
    ],
    ids=str,
)
def test_a_longest_answer_that_is_stated_is_kept_to_whatever_it_is_called(message, most):
    assert _after_long(message) == {"max_tokens": most}


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' is too large: 4096. This model's maximum context length is 2048 tokens and your request has 45 "
        "input tokens (4096 > 2048 - 45).",
        "max_tokens must be at most 3500: the context window of this model is 4096 and the prompt is 596",
        "max_tokens=4096 cannot be greater than max_model_len=2048. Please request fewer output tokens.",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1000 and 4096",
        "input length and `max_tokens` exceed context limit: 1882 + 4096 > 2048, decrease input length or `max_tokens`",
        "maximum context length is 2048 tokens, you requested 4141 tokens: 45 of messages and 4096 of the answer",
    ],
)
@pytest.mark.parametrize("param", [None, "max_tokens"])
def test_the_room_that_a_prompt_leaves_of_a_window_is_no_limit_of_answers(message, param):
    body = {"error": {"message": message, "param": param}}
    assert trouble_of(400, json.dumps(body)).kind == "too_long" and _after_long(body) is None


def test_limits_that_contradict_each_other_end_in_a_refusal():
    learned, said = Capabilities(), ("max_tokens must be at least 8192", "max_tokens must be at most 2048")
    for message in (*said, *said):
        sent = body_of(LONG, MODEL, learned)
        taught = learn(trouble_of(400, message), sent, LONG, learned, "far")
    assert not taught and body_of(LONG, MODEL, learned)["max_tokens"] == 8192


def _after_long(body):
    """What changes in a request for a long answer."""
    learned = Capabilities()
    sent = body_of(LONG, MODEL, learned)
    text = body if isinstance(body, str) else json.dumps(body)
    if not learn(trouble_of(400, text), sent, LONG, learned, "far"):
        return None
    now = body_of(LONG, MODEL, learned)
    return {name: now.get(name) for name in sent.keys() | now.keys() if now.get(name) != sent.get(name)}


@pytest.mark.parametrize(
    "message",
    [
        "logprobs: invalid type: boolean `true`, expected u32 at line 1 column 50",
        "logprobs: invalid type: boolean `true`, expected usize",
        "json: cannot unmarshal bool into Go struct field ChatCompletionRequest.logprobs of type int32",
        "logprobs must be an integer",
    ],
)
def test_logprobs_are_a_number_where_the_server_wants_one(message):
    assert after(message) == {"logprobs": 20, "top_logprobs": None}


def test_a_failure_says_nothing_of_a_switch_that_it_names():
    assert after("logprobs broke the engine", 500) is None and after("logprobs broke the engine", 400) is not None


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            {"title": "Bad Request", "detail": "maximum context length is 8"},
            "too_long",
            "maximum context length is 8; Bad Request",
        ),
        (
            {"title": "Bad Request", "detail": "Your input was flagged."},
            "flagged",
            "Your input was flagged; Bad Request",
        ),
        ({"message": "Bad Request", "detail": "No such thing."}, "refused", "No such thing; Bad Request"),
        (
            {"type": "urn:x", "title": "Bad Request", "status": 400, "detail": "no", "instance": "/v1"},
            "refused",
            "no; Bad Request",
        ),
        ({"title": "Bad Request", "status": 400}, "refused", "Bad Request"),
        (
            {"error": "Bad Request", "message": "no", "path": "/v1/chat", "timestamp": "2026-01-01 10:00"},
            "refused",
            "no; Bad Request",
        ),
        ({"message": "no", "detail": "no"}, "refused", "no"),
        ({"errorMessage": "no", "errorCode": "x1", "request_id": "a b"}, "refused", "no"),
    ],
)
def test_every_text_of_an_object_is_told_the_most_exact_first(body, kind, said):
    trouble = trouble_of(400, json.dumps(body))
    assert (trouble.kind, trouble.said) == (kind, said)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({f"k{number}": "[{" * 200 for number in range(2000)}),
        json.dumps({"error": {f"m{number}": {"message": "a b"} for number in range(20000)}}),
        json.dumps({"a": "[" * 200000}),
        "temperature must be " * 5000,
    ],
    ids=["brackets", "objects", "depth", "words"],
)
def test_a_body_of_any_size_is_read_in_no_time(body):
    started = time.monotonic()
    after(body)
    assert time.monotonic() - started < 5
