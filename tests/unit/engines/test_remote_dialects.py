"""What servers refuse, each in its own words, costs one request and is remembered; everything is served after that."""

from __future__ import annotations

import json
import math

import pytest
from openai_server import helpful, reply, request, serving

from bohdi_ray.engines.openai.probes import LABEL
from bohdi_ray.errors import PromptTooLong, RemoteFailed, RequestRefused
from bohdi_ray.records import SamplingSpec


@pytest.fixture
def server():
    with serving() as server:
        server.default = helpful
        yield server


def openai_error(message, param=None, code=None):
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def extra(*names):
    """pydantic's list for fields that a model does not have."""
    return [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 5}
        for name in names
    ]


def unknown_names(*names):
    """Google's two accounts of the same."""
    lines = [f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.' for name in names]
    violations = [{"description": line} for line in lines]
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return [{"error": {"code": 400, "message": "\n".join(lines), "status": "INVALID_ARGUMENT", "details": details}}]


STRUCTURES = ("structured_outputs", "guided_choice", "guided_regex", "regex", "response_format", "grammar")


def strict(*allowed, error=lambda name: (400, openai_error(f"Unrecognized request argument supplied: {name}"))):
    """A server that knows these fields and no others."""

    def rule(body):
        for name in body:
            if name not in ("model", "messages", *allowed):
                return *error(name), {}
        return None

    return rule


def when(condition, status, body):
    return lambda sent: (status, body, {}) if condition(sent) else None


def has(*names):
    return lambda sent: all(name in sent for name in names)


SAMPLING = ("temperature", "top_p", "seed", "max_tokens", "logprobs", "top_logprobs")
ONLY_ONE = "Only the default (1) value is supported."

# What a server is like, and the fields with values (... for any) that a request for a label has in the end.
DIALECTS = {
    "reasoning models of OpenAI": (
        [
            when(
                has("max_tokens"),
                400,
                openai_error(
                    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                    "instead.",
                    "max_tokens",
                    "unsupported_parameter",
                ),
            ),
            when(
                lambda sent: sent.get("temperature", 1) != 1,
                400,
                openai_error(
                    f"Unsupported value: 'temperature' does not support 0.7 with this model. {ONLY_ONE}",
                    "temperature",
                    "unsupported_value",
                ),
            ),
            when(
                has("top_p"),
                400,
                openai_error("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
            ),
            when(has("logprobs"), 403, openai_error("You are not allowed to request logprobs from this model")),
            strict("max_completion_tokens", "temperature", "seed"),
        ],
        {"max_completion_tokens": 8, "seed": ...},
    ),
    "the same without naming a field apart": (
        [
            when(
                has("temperature"), 400, {"message": f"Unsupported value: 'temperature' does not support 0. {ONLY_ONE}"}
            ),
            when(has("logprobs"), 403, "logprobs are forbidden for this model"),
        ],
        {"top_p": 1.0, "seed": ..., "max_tokens": 8, "structured_outputs": ...},
    ),
    "Anthropic-compatible": (
        [
            when(
                has("temperature", "top_p"),
                400,
                openai_error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
            ),
            when(has("seed"), 422, {"detail": extra("seed")}),
            strict("temperature", "top_p", "max_tokens", error=lambda name: (422, {"detail": extra(name)})),
        ],
        {"temperature": 0.0, "max_tokens": 8},
    ),
    "models whose temperature is deprecated": (
        [when(has("temperature"), 400, openai_error("`temperature` is deprecated for this model."))],
        {"top_p": 1.0, "seed": ..., "max_tokens": 8, "structured_outputs": ..., "logprobs": True, "top_logprobs": 20},
    ),
    "Mistral's API": (
        [
            lambda sent: (
                (
                    422,
                    {
                        "object": "error",
                        "message": {"detail": extra(*others)},
                        "type": "invalid_request_error",
                        "param": None,
                        "code": None,
                    },
                    {},
                )
                if (others := sent.keys() - {"model", "messages", "temperature", "top_p", "max_tokens", "random_seed"})
                else None
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8},
    ),
    "the same, quoted as text": (
        [
            lambda sent: (
                (422, {"object": "error", "message": json.dumps({"detail": extra(*others)}), "code": "1000"}, {})
                if (others := sent.keys() - {"model", "messages", "temperature", "top_p", "max_tokens"})
                else None
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8},
    ),
    "a server that names random_seed": (
        [
            when(has("seed"), 400, openai_error("Unknown parameter: seed. Did you mean random_seed?")),
        ],
        {
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": 8,
            "random_seed": ...,
            "structured_outputs": ...,
            "logprobs": ...,
        }
        | {"top_logprobs": 20},
    ),
    "Gemini's OpenAI endpoint": (
        [
            lambda sent: (
                (400, unknown_names(*others), {})
                if (others := sent.keys() - {"model", "messages", "temperature", "top_p", "max_tokens"})
                else None
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8},
    ),
    "Groq": (
        [
            when(has("logprobs"), 400, openai_error("property 'logprobs' is unsupported")),
            strict(*SAMPLING, error=lambda name: (400, openai_error(f"property '{name}' is unsupported"))),
        ],
        {"temperature": 0.0, "top_p": 1.0, "seed": ..., "max_tokens": 8},
    ),
    "Fireworks": (
        [
            when(
                lambda sent: sent.get("top_logprobs", 0) > 5,
                400,
                {"error": {"object": "error", "message": "top_logprobs must be between 0 and 5", "code": "bad"}},
            ),
            strict(
                *SAMPLING,
                error=lambda name: (400, openai_error(f"Extra inputs are not permitted, field: '{name}', value: 5")),
            ),
        ],
        {"temperature": 0.0, "top_p": 1.0, "seed": ..., "max_tokens": 8, "logprobs": True, "top_logprobs": 5},
    ),
    "limits of alternatives as pydantic states them": (
        [
            when(
                lambda sent: sent.get("top_logprobs", 0) > 5,
                422,
                {
                    "detail": [
                        {
                            "type": "less_than_equal",
                            "loc": ["body", "top_logprobs"],
                            "msg": "Input should be less than or equal to 5",
                            "input": 20,
                            "ctx": {"le": 5},
                        }
                    ]
                },
            )
        ],
        {"logprobs": True, "top_logprobs": 5, "seed": ..., "temperature": 0.0, "top_p": 1.0, "max_tokens": 8}
        | {"structured_outputs": ...},
    ),
    "Together": (
        [
            when(
                lambda sent: sent.get("logprobs") is True,
                422,
                openai_error("Invalid type for 'logprobs': expected an integer, got a boolean", "logprobs"),
            ),
            when(
                lambda sent: sent.get("logprobs", 0) > 1,
                422,
                openai_error("5 is greater than the maximum of 1 - 'logprobs'", "logprobs"),
            ),
        ],
        {"logprobs": 1, "seed": ..., "temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "structured_outputs": ...},
    ),
    "DeepSeek's reasoner": (
        [
            when(has("logprobs"), 400, openai_error("deepseek-reasoner does not support the parameter `logprobs`")),
            when(has("seed"), 400, openai_error("seed is not a valid parameter")),
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "structured_outputs": ...},
    ),
    "TGI": (
        [
            when(
                lambda sent: sent.get("top_p", 0) >= 1,
                422,
                {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"},
            ),
            when(
                lambda sent: sent.get("temperature", 1) <= 0,
                422,
                {
                    "error": "Input validation error: `temperature` must be strictly positive",
                    "error_type": "validation",
                },
            ),
            when(
                lambda sent: sent.get("top_logprobs", 0) > 5,
                422,
                {"error": "Input validation error: `top_logprobs` must be >= 0 and <= 5", "error_type": "validation"},
            ),
        ],
        {
            "temperature": 0.01,
            "seed": ...,
            "max_tokens": 8,
            "logprobs": True,
            "top_logprobs": 5,
            "structured_outputs": ...,
        },
    ),
    "vLLM with few log-probabilities": (
        [
            when(
                lambda sent: sent.get("top_logprobs", 0) > 5,
                400,
                {
                    "object": "error",
                    "message": "Requested sample logprobs of 20, which is greater than max allowed: 5",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                },
            )
        ],
        {"logprobs": True, "top_logprobs": 5, "seed": ..., "temperature": 0.0, "top_p": 1.0, "max_tokens": 8}
        | {"structured_outputs": ...},
    ),
    "LiteLLM": (
        [
            lambda sent: (
                (
                    400,
                    openai_error(
                        f"litellm.UnsupportedParamsError: anthropic does not support parameters: {others}, "
                        "for model=m. To drop these, set `litellm.drop_params=True` or for proxy: ..."
                    ),
                    {},
                )
                if (others := sorted(sent.keys() & {"seed", "logprobs", "top_logprobs", *STRUCTURES}))
                else None
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8},
    ),
    "OpenRouter, which quotes its provider": (
        [
            when(
                has("top_p"),
                400,
                {
                    "error": {
                        "message": "Provider returned error",
                        "code": 400,
                        "metadata": {
                            "raw": json.dumps(openai_error("Unsupported parameter: 'top_p'", "top_p")),
                            "provider_name": "Some",
                        },
                    }
                },
            )
        ],
        {
            "temperature": 0.0,
            "seed": ...,
            "max_tokens": 8,
            "logprobs": True,
            "top_logprobs": 20,
            "structured_outputs": ...,
        },
    ),
    "an HTTP 200 with the refusal in its body": (
        [when(has("seed"), 200, openai_error("Unsupported parameter: 'seed'", "seed", "unsupported_parameter"))],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "logprobs": True, "top_logprobs": 20}
        | {"structured_outputs": ...},
    ),
    "a pydantic error as text": (
        [
            when(
                has("seed"),
                500,
                "1 validation error for ChatCompletionRequest\nseed\n  Extra inputs are not permitted "
                "[type=extra_forbidden, input_value=5, input_type=int]\n    For further information visit ...",
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "logprobs": True, "top_logprobs": 20}
        | {"structured_outputs": ...},
    ),
    "a least number of tokens": (
        [
            when(
                lambda sent: sent.get("max_tokens", 16) < 16,
                400,
                openai_error(
                    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 8 instead.",
                    "max_tokens",
                    "integer_below_min_value",
                ),
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "seed": ..., "max_tokens": 16, "logprobs": True, "top_logprobs": 20}
        | {"structured_outputs": ...},
    ),
    "vLLM before structured_outputs": (
        [when(has("structured_outputs"), 400, openai_error("Unknown parameter: 'structured_outputs'"))],
        {"temperature": 0.0, "top_p": 1.0, "seed": ..., "max_tokens": 8, "logprobs": True, "top_logprobs": 20}
        | {"guided_choice": ["A", "B"]},
    ),
}


DIALECTS |= {
    "DashScope": (
        [
            when(
                has(name),
                400,
                openai_error(
                    f"<400> InternalError.Algo.InvalidParameter: The parameter {name} is not supported.", code="x"
                ),
            )
            for name in ("seed", "logprobs", "structured_outputs", "guided_choice", "guided_regex", "regex")
        ]
        + [
            when(
                lambda sent: sent["max_tokens"] > 2000,
                400,
                openai_error("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 2000]"),
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "response_format": ...},
    ),
    "servers in Rust that deny unknown fields": (
        [
            strict(
                *("temperature", "top_p", "max_tokens", "logprobs", "top_logprobs"),
                error=lambda name: (
                    422,
                    {
                        "error": f"Failed to deserialize the JSON body into the target type: unknown field `{name}`, "
                        "expected one of `model`, `messages`, `temperature`, `top_p`, `max_tokens` at line 1 column 7"
                    },
                ),
            ),
            when(
                lambda sent: sent.get("logprobs") is True,
                422,
                {"error": "logprobs: invalid type: boolean `true`, expected u32 at line 1 column 50"},
            ),
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "logprobs": 20},
    ),
    "NVIDIA NIM": (
        [
            lambda sent: (
                (
                    400,
                    {
                        "type": "urn:inference-service:problem-details:bad-request",
                        "title": "Bad Request",
                        "status": 400,
                        "detail": f"Validation: Unsupported parameter(s): `{name}`",
                        "instance": "/v1/chat/completions",
                    },
                    {},
                )
                if (name := next((n for n in ("seed", "structured_outputs", "logprobs") if n in sent), None))
                else None
            )
        ],
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "guided_choice": ["A", "B"]},
    ),
    "one temperature, as pydantic states it": (
        [
            when(
                lambda sent: sent.get("temperature", 1) != 1,
                422,
                {
                    "detail": [
                        {
                            "type": "literal_error",
                            "loc": ["body", "temperature"],
                            "msg": "Input should be 1",
                            "input": 0,
                            "ctx": {"expected": "1"},
                        }
                    ]
                },
            )
        ],
        {"top_p": 1.0, "seed": ..., "max_tokens": 8, "structured_outputs": ..., "logprobs": True, "top_logprobs": 20},
    ),
    "models that think with a large top_p": (
        [
            when(
                lambda sent: sent.get("top_p", 1) < 0.95,
                400,
                openai_error(
                    "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled or in adaptive "
                    "mode. Please consult our documentation at https://docs.example.org/#important-considerations"
                ),
            ),
            when(lambda sent: sent.get("temperature", 1) != 1, 400, openai_error("temperature can only be 1")),
        ],
        {"seed": ..., "max_tokens": 8, "structured_outputs": ..., "logprobs": True, "top_logprobs": 20},
    ),
    "speculative decoding": (
        [when(has("logprobs"), 400, openai_error("logprobs is incompatible with speculative decoding"))],
        {"temperature": 0.0, "top_p": 1.0, "seed": ..., "max_tokens": 8, "structured_outputs": ...},
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_what_a_dialect_refuses_is_learned_in_the_health_check_and_every_request_is_served(server, name):
    rules, label = DIALECTS[name]
    server.rules = rules
    server.ask_all(ping=True)
    num_learning = len(server.requests)
    assert num_learning < 20
    label_request = request("label", prompt=LABEL, choices=("A", "B"), sampling=SamplingSpec(0.0, 1.0, 8, 5))
    asked = [request("q"), label_request]
    done, stats = server.ask_all(*asked, max_in_flight=1)
    assert done["q"].text == "fine" and done["label"].text == "A" and math.exp(done["label"].choice_logprobs["A"]) > 0.5
    assert len(server.requests) == num_learning + 2, "an engine of the same process knows it already"
    sent = {name: value for name, value in server.requests[-1].items() if name not in ("model", "messages")}
    assert sent.keys() == label.keys()
    assert all(sent[name] == value for name, value in label.items() if value is not ...)
    assert stats.learned and all(text.startswith("far: ") for text in stats.learned)
    assert len(stats.learned) == len(set(stats.learned))


def test_a_system_prompt_is_folded_where_there_is_no_system_role(server):
    for message in (
        openai_error("Unsupported value: 'messages[0].role' does not support 'system'.", "messages[0].role"),
        {"object": "error", "message": "Conversation roles must alternate user/assistant/user/assistant/..."},
        [{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma-3-27b-it"}}],
        {"error": {"code": 500, "message": "System role not supported", "type": "server_error"}},
    ):
        server.rules = [when(lambda sent: sent["messages"][0]["role"] == "system", 400, message)]
        name = str(len(server.requests))  # of a model that is not known yet
        assert server.ask(request(), system_prompt="Be brief.", model=name)["a"].text == "fine"
        assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nWhy?"}]


def test_content_is_sent_as_parts_where_that_alone_is_taken(server):
    where = ["body", "messages", 0, "content"]
    detail = [{"type": "list_type", "loc": where, "msg": "Input should be a valid list", "input": "Why?"}]
    server.rules = [when(lambda sent: isinstance(sent["messages"][0]["content"], str), 422, {"detail": detail})]
    assert server.ask(request())["a"].text == "fine"
    assert server.requests[-1]["messages"][0]["content"] == [{"type": "text", "text": "Why?"}]


def test_variables_for_the_chat_template_are_sent_and_left_out_where_they_are_refused(server):
    fields = {"chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "low"}}
    role = {"sampling": {"answer": {"chat_template_kwargs": {"enable_thinking": True}}}}
    server.ask(request(), **fields, **role)
    assert server.requests[-1]["chat_template_kwargs"] == {"enable_thinking": True, "reasoning_effort": "low"}
    server.rules = [when(has("chat_template_kwargs"), 400, openai_error("Unknown parameter: 'chat_template_kwargs'."))]
    _, stats = server.ask_all(request(), **fields)
    assert "chat_template_kwargs" not in server.requests[-1] and server.requests[-1]["reasoning_effort"] == "low"
    assert any("chat_template_kwargs" in text for text in stats.learned)


def test_a_switch_that_a_server_insists_on_is_set(server):
    message = "parameter.enable_thinking must be set to false for non-streaming calls"
    server.rules = [when(lambda sent: sent.get("enable_thinking") is not False, 400, openai_error(message))]
    assert server.ask(request())["a"].text == "fine"


def test_a_constraint_that_is_taken_and_not_kept_is_sent_in_the_next_way(server):
    def only(field):
        def answer(sent):
            kept = field in sent
            return 200, reply("B" if kept else "I would say that B is better.", None), {}

        return answer

    for field in ("guided_choice", "regex", "response_format", "grammar"):
        server.default = only(field)
        server.ask_all(ping=True, model=field)
        done = server.ask(request(choices=("A", "B")), model=field)
        assert field in server.requests[-1] and done["a"].text == "B"


def test_a_constraint_that_nobody_keeps_is_sent_no_more(server):
    server.default = (200, reply("It is hard to say, but B, I think."), {})
    _, stats = server.ask_all(ping=True)
    assert not set(STRUCTURES) & server.requests[-1].keys()
    assert sum("free text" in text for text in stats.learned) == 2


VALUES = [
    "Invalid type for 'seed': expected an integer.",
    "top_p must be in (0, 1]",
    "Unsupported: max_tokens_per_day",
    "temperature must be between 0 and 0.5",
    "Invalid 'temperature': decimal above maximum value. Expected a value <= 0.5, but got 0.7 instead.",
    "temperature: 0.7 is not allowed, must be less than 0.5",
    "this region is not supported. Your request had: seed, temperature, top_p",
    "Unsupported media type; see the documentation of temperature, top_p, seed and max_tokens",
    "The model `seed` is busy",
]


@pytest.mark.parametrize("message", VALUES)
@pytest.mark.parametrize("shape", ["openai", "text", "param"])
def test_a_wrong_value_fails_that_request_alone_and_no_field_is_left_out(server, message, shape):
    name = next(
        (name for name in ("seed", "top_p", "temperature") if message.startswith((name, f"Invalid '{name}"))), None
    )
    body = {"openai": openai_error(message), "text": message, "param": openai_error(message, name)}[shape]
    server.queued = [(400, body, {})]
    done = server.ask(request("a"), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, RequestRefused) and done["b"].text == "fine"
    assert {"temperature", "seed", "top_p", "max_tokens"} <= set(server.requests[-1]) and len(server.requests) == 2


def test_words_of_a_prompt_that_a_server_repeats_teach_nothing(server):
    prompt = "Why does it say: Unsupported parameter: 'temperature' is not supported with this model?"
    for body in (
        f"cannot serve {prompt}",
        openai_error(f"cannot serve {prompt}"),
        {"detail": [{"msg": "no", "input": prompt}]},
    ):
        server.queued = [(400, body, {})]
        assert isinstance(server.ask(request(prompt=prompt))["a"].error, RequestRefused)
    assert server.ask(request())["a"].text == "fine" and "temperature" in server.requests[-1]


def test_a_field_that_is_refused_whatever_is_sent_ends_in_a_refusal(server):
    server.default = (400, openai_error("Unsupported parameter: 'max_tokens' is not supported"), {})
    done = server.ask(request())
    assert isinstance(done["a"].error, RequestRefused) and len(server.requests) < 6


def test_requests_that_are_refused_together_learn_once(server):
    server.rules = [when(lambda sent: sent.get("top_logprobs", 0) > 5, 400, openai_error("top_logprobs must be <= 5"))]
    server.delay_s = 0.05
    done = server.ask(*(request(str(i), choices=("A", "B")) for i in range(8)), max_in_flight=8)
    assert len(done) == 8 and server.requests[-1]["top_logprobs"] == 5
    server.rules = [when(has("max_tokens"), 400, openai_error("Unsupported parameter: 'max_tokens'", "max_tokens"))]
    done = server.ask(*(request(str(i)) for i in range(8)), max_in_flight=8)
    assert len(done) == 8 and server.requests[-1]["max_completion_tokens"] == 100


def test_models_of_one_server_are_learned_apart(server):
    server.rules = [
        when(lambda sent: sent["model"] == "one" and "seed" in sent, 400, openai_error("Unknown parameter: 'seed'"))
    ]
    server.ask(request(), model="one")
    server.ask(request(), model="other")
    assert "seed" in server.requests[-1]


def test_a_longest_answer_that_a_server_states_is_kept_to(server):
    message = (
        "max_tokens is too large: 4096. This model supports at most 1,024 completion tokens, whereas you provided 4096."
    )
    server.rules = [when(lambda sent: sent["max_tokens"] > 1024, 400, openai_error(message, "max_tokens"))]
    server.ask(request(sampling=SamplingSpec(0.7, 0.8, 4096, 5)))
    assert server.requests[-1]["max_tokens"] == 1024


@pytest.mark.parametrize(
    "body",
    [
        openai_error(
            "`max_tokens` must be less than or equal to `2048`, the maximum value for `max_tokens` is less than the "
            "`context_window` for this model",
            "max_tokens",
        ),
        {"message": "Malformed input request: #/max_tokens: 4096 is not less or equal to 2048, please reformat it."},
        {"message": "The maximum tokens you requested exceeds the model limit of 2048. Try again with a lower value."},
        [
            {
                "error": {
                    "code": 400,
                    "message": "it has a maxOutputTokens value of 4096 but the supported range is from 1 ",
                }
            }
        ],
    ],
)
def test_the_health_check_keeps_to_a_longest_answer_and_so_do_all_after_it(server, body):
    if isinstance(body, list):
        body[0]["error"]["message"] += "(inclusive) to 2049 (exclusive). Update the value and try again."
    server.rules = [when(lambda sent: sent["max_tokens"] > 2048, 400, body)]
    done, stats = server.ask_all(request(sampling=SamplingSpec(0.7, 0.8, 4096, 5)), ping=True)
    assert done["a"].text == "fine" and server.requests[-1]["max_tokens"] == 2048
    assert sum(sent["max_tokens"] > 2048 for sent in server.requests) == 1
    assert any("2048 tokens at most" in text for text in stats.learned)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "'max_tokens' is too large: 100. This model's maximum context length is 64 tokens, unsupported here.",
        "the request exceeds the available context size, try increasing it",
        "prompt is too long: 9000 tokens > 8192 maximum",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 and 100",
    ],
)
def test_a_window_that_is_too_small_for_harvests_is_found_by_the_health_check(server, message):
    server.default = (400, openai_error(message), {})
    assert isinstance(server.ask(request())["a"].error, PromptTooLong)
    with pytest.raises(RemoteFailed, match="requests that every harvest sends"):
        server.ask_all(ping=True)


def test_a_health_check_asks_for_what_harvests_ask_and_says_what_is_refused(server):
    server.ask_all(ping=True)
    answer, name, label = server.requests
    assert answer["max_tokens"] == 4096 and answer["temperature"] == 0.7 and "structured_outputs" not in answer
    assert "regex" in name["structured_outputs"] and name["max_tokens"] == 64
    assert label["structured_outputs"] == {"choice": ["A", "B"]} and label["logprobs"] and label["temperature"] == 0
    server.ask_all(ping=True, judges=False)
    assert len(server.requests) == 5
    server.rules = [when(has("logprobs"), 400, openai_error("labels are not sold here"))]
    with pytest.raises(RemoteFailed, match=r"\(judge\).*labels are not sold here"):
        server.ask_all(ping=True)
    server.ask_all(ping=True, judges=False)


def test_a_judge_whose_labels_cannot_be_read_is_told_of_at_the_start(server):
    server.default = (200, reply("I cannot choose."), {})
    _, stats = server.ask_all(ping=True)
    assert any("names no label" in text for text in stats.learned)
