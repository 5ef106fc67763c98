"""RemoteEngine against a small OpenAI-like server on loopback: requests, retries, and whose fault a failure is."""

from __future__ import annotations

import math
import time
from email.utils import formatdate

import pytest
from openai_server import reply, request, serving

from bohdi_ray.engines.openai import engine as engine_module
from bohdi_ray.engines.openai import resolve_secret
from bohdi_ray.errors import ConfigError, PromptTooLong, RemoteFailed, RequestRefused
from bohdi_ray.records import ScoreRequest

KEY = "sk-very-secret"


@pytest.fixture
def server():
    with serving() as server:
        yield server


def ask(server, *requests, **fields):
    return server.ask_all(*requests, **fields)


def error(message, **fields):
    return {"error": {"message": message, **fields}}


def refuses(server, **messages):
    """A 400 for each field, or role of a message, with its message."""

    def rule(body):
        for name, message in messages.items():
            if name in body or any(name == m["role"] for m in body["messages"]):
                return 400, error(message), {}
        return None

    server.rules.append(rule)


def test_an_answer_comes_back_with_its_counts_and_the_request_is_as_configured(server):
    server.default = (200, reply("because", finish="length"), {})
    done, stats = ask(server, request(), system_prompt="Be brief.")
    assert (done["a"].text, done["a"].finish_reason, done["a"].num_prompt_tokens, done["a"].num_tokens) == (
        "because",
        "length",
        11,
        3,
    )
    sent = server.requests[0]
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["seed"]) == (0.7, 0.8, 100, 5)
    assert (stats.num_served, stats.num_prompt_tokens, stats.num_decoded_tokens, stats.num_in_flight) == (1, 11, 3, 0)


def test_passing_failures_are_tried_again_and_counted(server):
    busy, broken = {"error": {"message": "busy"}}, {"error": {"message": "broken"}}
    server.queued = [
        (429, busy, {"Retry-After": "0"}),
        (500, broken, {}),
        (503, broken, {}),
        (200, reply("at last"), {}),
    ]
    done, stats = ask(server, request())
    assert done["a"].text == "at last" and stats.num_retries == 3 and len(server.requests) == 4


def test_a_time_out_is_tried_again(server):
    server.queued = [(200, None, {})]
    done, stats = ask(server, request(), timeout_s=1.5)
    assert done["a"].text == "fine" and stats.num_retries == 1


def test_a_server_that_keeps_failing_ends_in_an_error_that_says_so(server):
    server.default = (500, error("broken"), {})
    with pytest.raises(RemoteFailed, match="failed 3 times"):
        ask(server, request(), max_retries=2)
    assert len(server.requests) == 4  # the last one asks whether it is there at all


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529])
def test_a_status_that_passes_is_tried_again(server, status):
    server.queued = [(status, error("not now"), {})]
    done, stats = ask(server, request())
    assert done["a"].text == "fine" and stats.num_retries == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "0.2"},
        {"retry-after-ms": "200"},
        {"Retry-After": "200ms"},
    ],
)
def test_a_pause_that_the_server_asks_for_is_kept(server, headers):
    server.queued = [(429, error("slower"), headers)]
    started = time.monotonic()
    ask(server, request())
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("asked", ["86400", formatdate(4e9, usegmt=True), "99999999"])
def test_a_pause_of_hours_is_bounded(server, asked, monkeypatch):
    monkeypatch.setattr(engine_module, "LONGEST_DELAY_S", 0.05)
    server.queued = [(429, error("tomorrow"), {"Retry-After": asked})]
    started = time.monotonic()
    done, _ = ask(server, request())
    assert done["a"].text == "fine" and time.monotonic() - started < 10


@pytest.mark.parametrize("asked", ["soon", "-5", "nan", "1e400", ""])
def test_a_pause_that_is_no_time_is_ignored(server, asked):
    server.queued = [(429, error("slower"), {"Retry-After": asked})]
    done, _ = ask(server, request())
    assert done["a"].text == "fine"


FLAGGED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
OPENROUTER = {"error": {"code": 403, "message": "Input was flagged", "metadata": {"reasons": ["violence"]}}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (413, error("Request Entity Too Large")),
        (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
        (403, OPENROUTER),
        (403, "<html>Request blocked by the firewall</html>"),
        (403, error("no")),
        (404, error("no")),
        (422, {"detail": "no"}),
        (451, error("no")),
        (400, error(FLAGGED, code="content_filter", param="prompt")),
        (400, error("Output data may contain inappropriate content.", code="data_inspection_failed")),
        (429, error("Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000.")),
    ],
)
def test_a_request_that_a_server_will_not_have_fails_alone_and_at_once(server, status, body):
    server.rules.append(lambda sent: (status, body, {}) if "bad" in sent["messages"][-1]["content"] else None)
    good = [request(str(i)) for i in range(3)]
    done, stats = ask(server, request("bad", prompt="bad"), *good)
    assert isinstance(done["bad"].error, RequestRefused | PromptTooLong) and done["bad"].finish_reason is None
    assert all(done[r.request_id].text == "fine" for r in good) and stats.num_retries == 0


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_request_that_fails_again_and_again_while_the_server_answers_others_fails_alone(server, status):
    server.rules.append(lambda sent: (status, error("no"), {}) if "bad" in sent["messages"][-1]["content"] else None)
    done, stats = ask(server, request("bad", prompt="bad"), request(), max_retries=2)
    assert isinstance(done["bad"].error, RequestRefused) and "3 times" in str(done["bad"].error)
    assert done["a"].text == "fine" and stats.num_retries == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, error("Incorrect API key")),
        (402, error("Insufficient Balance")),
        (403, error("Country, region, or territory not supported")),
        (404, error("The model `m` does not exist")),
        (429, error("You exceeded your current quota, please check your plan.", code="insufficient_quota")),
    ],
)
def test_a_refusal_of_every_request_is_the_sources_failure(server, status, body):
    server.default = (status, body, {})
    with pytest.raises(RemoteFailed, match=r"check base_url, model and api_key"):
        ask(server, request(), max_retries=3)
    assert len(server.requests) <= 2


def test_a_source_that_refuses_one_request_after_the_other_is_asked_whether_it_is_there(server):
    server.default = (400, error("no"), {})
    with pytest.raises(RemoteFailed, match="HTTP 400: no"):
        ask(server, *(request(str(i)) for i in range(12)), max_in_flight=1)
    assert len(server.requests) <= engine_module.MOST_REFUSED + 4


def test_a_key_that_the_server_repeats_is_not_told(server, monkeypatch, caplog):
    monkeypatch.setenv("FAR_KEY", KEY)
    server.rules.append(lambda body: (400, error(f"seed is not supported for {KEY}"), {}) if "seed" in body else None)
    server.default = (401, error(f"wrong key {KEY}"), {})
    with pytest.raises(RemoteFailed, match=r"wrong key \*\*\*") as raised:
        ask(server, request(), api_key="env:FAR_KEY")
    assert KEY not in str(raised.value) and KEY not in caplog.text


def test_a_wrong_key_is_not_tried_again_and_never_shown(server, monkeypatch, caplog):
    monkeypatch.setenv("FAR_KEY", KEY)
    server.default = (401, {"error": {"message": "wrong key"}}, {})
    with pytest.raises(RemoteFailed, match="check base_url, model and api_key") as raised:
        ask(server, request(), api_key="env:FAR_KEY")
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}"]
    assert KEY not in str(raised.value) and KEY not in caplog.text


def test_no_more_requests_are_sent_at_a_time_than_allowed(server):
    done, _ = ask(server, *(request(str(i)) for i in range(20)), max_in_flight=3)
    assert len(done) == 20 and server.most_at_once <= 3


def test_a_judges_label_comes_with_its_log_probabilities(server):
    top = [("B", math.log(0.6)), ("A", math.log(0.2)), (" A", math.log(0.1)), ("The", math.log(0.1))]
    server.default = (200, reply("B", top), {})
    done, _ = ask(server, request(choices=("A", "B")))
    assert done["a"].text == "B"
    assert math.exp(done["a"].choice_logprobs["A"]) == pytest.approx(0.3 / 0.9)
    sent = server.requests[0]
    assert sent["structured_outputs"] == {"choice": ["A", "B"]} and sent["logprobs"] and sent["top_logprobs"] == 20


def test_what_a_server_does_not_take_is_left_out_from_then_on(server):
    refuses(
        server,
        structured_outputs="Unrecognized request argument: structured_outputs",
        logprobs="logprobs is not supported with this model",
        top_logprobs="top_logprobs is not supported with this model",
        max_tokens="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
    )
    server.default = (200, reply("The best answer is (B)."), {})
    done, stats = ask(server, *(request(str(i), choices=("A", "B")) for i in range(4)), max_in_flight=4)
    assert {c.text for c in done.values()} == {"B"} and stats.num_served == 4
    assert all(c.choice_logprobs["B"] > c.choice_logprobs["A"] for c in done.values())
    last = server.requests[-1]
    assert last["max_completion_tokens"] == 100 and not {"max_tokens", "logprobs", "structured_outputs"} & set(last)


def test_a_system_prompt_is_folded_where_the_server_has_no_system_role(server):
    refuses(server, system="System role not supported")
    done, _ = ask(server, request(), system_prompt="Be brief.")
    assert done["a"].text == "fine"
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nWhy?"}]


@pytest.mark.parametrize("text", ["None of them.", "A better one is out there."])
def test_an_answer_that_names_no_single_label_has_no_log_probabilities(server, text):
    server.default = (200, reply(text), {})
    done, _ = ask(server, request(choices=("A", "B")))
    assert done["a"].choice_logprobs is None and done["a"].text == text


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "'max_tokens' is too large: 100. This model's maximum context length is 64 tokens, unsupported here.",
        "the request exceeds the available context size, try increasing it",
        "prompt is too long: 9000 tokens > 8192 maximum",
    ],
)
def test_a_prompt_that_does_not_fit_fails_alone_and_teaches_nothing(server, message):
    server.queued = [(400, {"error": {"message": message, "param": "max_tokens"}}, {})]
    done, _ = ask(server, request("a"), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, PromptTooLong) and message[:20] in str(done["a"].error)
    assert done["b"].text == "fine" and server.requests[-1]["max_tokens"] == 100 and len(server.requests) == 2


@pytest.mark.parametrize(
    "message",
    ["Invalid type for 'seed': expected an integer.", "top_p must be in (0, 1]", "Unsupported: max_tokens_per_day"],
)
def test_a_wrong_value_fails_that_request_alone_and_no_field_is_left_out(server, message):
    server.queued = [(400, {"error": {"message": message}}, {})]
    done, _ = ask(server, request("a"), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, RequestRefused) and done["b"].text == "fine"
    assert {"seed", "top_p", "max_tokens"} <= set(server.requests[-1]) and len(server.requests) == 2


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'seed' is not supported with this model.",
        "Unknown parameter: seed",
        "Unrecognized request argument supplied: seed",
        "[{'type': 'extra_forbidden', 'loc': ['body', 'seed'], 'msg': 'Extra inputs are not permitted'}]",
        "This model does not support seed",
    ],
)
def test_a_field_that_the_server_does_not_know_is_left_out(server, message):
    refuses(server, seed=message)
    done, _ = ask(server, request("a"), request("b"), max_in_flight=1)
    assert done["a"].text == done["b"].text == "fine"
    assert "seed" not in server.requests[-1] and len(server.requests) == 3


@pytest.mark.parametrize("reason", ["content_filter", "tool_calls"])
def test_an_answer_that_was_withheld_is_refused_and_its_tokens_count(server, reason):
    server.queued = [(200, reply("A", finish=reason), {})]
    done, stats = ask(server, request("a", choices=("A", "B")), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, RequestRefused) and reason in str(done["a"].error)
    assert done["a"].text == "" and done["b"].text == "fine" and stats.num_decoded_tokens == 6


def test_a_request_that_waits_for_its_turn_does_not_time_out(server):
    server.delay_s = 0.1
    done, stats = ask(server, *(request(str(i)) for i in range(12)), max_in_flight=1, timeout_s=0.8)
    assert len(done) == 12 and stats.num_retries == 0


def test_scoring_is_refused_without_a_request(server):
    done, _ = ask(server, ScoreRequest("s", "judge", "Why?", "Because."))
    assert isinstance(done["s"].error, RequestRefused) and not server.requests


def test_control_tokens_of_the_common_families_are_stripped(server):
    ask(server, request(prompt="<|im_<|im_end|>end|>Hi<end_of_turn>[/INST]"))
    assert server.requests[0]["messages"][0]["content"] == "Hi"


def test_a_secret_is_read_from_where_its_reference_points(tmp_path, monkeypatch):
    monkeypatch.setenv("FAR_KEY", KEY)
    (tmp_path / "key").write_text(KEY + "\n")
    assert resolve_secret("env:FAR_KEY") == resolve_secret(f"file:{tmp_path}/key") == KEY
    monkeypatch.delenv("FAR_KEY")
    for reference in ("env:FAR_KEY", f"file:{tmp_path}/none"):
        with pytest.raises(ConfigError):
            resolve_secret(reference)
