"""RemoteEngine against a small OpenAI-like server on loopback, over the official client."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bohdi_ray.config import OpenAIModel
from bohdi_ray.engines.openai import RemoteEngine, resolve_secret
from bohdi_ray.errors import ConfigError, PromptTooLong, RemoteFailed, RequestRefused
from bohdi_ray.records import GenerationRequest, SamplingSpec, ScoreRequest

KEY = "sk-very-secret"


class Server:
    """Answers what was queued, in order, then `default`; keeps every request."""

    def __init__(self):
        self.queued: list[tuple[int, dict | None, dict]] = []  # status, body (None: never answers), headers
        self.default = (200, reply("fine"), {})
        self.delay_s = 0.0
        self.refuses: dict[str, str] = {}  # a field in the request -> message of a 400
        self.requests: list[dict] = []
        self.keys: list[str] = []
        self.most_at_once = self._now = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content, headers = server.take(body, self.headers["Authorization"])
                if content is None:
                    server.released.wait(20)
                    return
                server.released.wait(server.delay_s)
                data = json.dumps(content).encode()
                server.leave()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def take(self, body, key):
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            for field, message in self.refuses.items():
                if field in body or any(field == m["role"] for m in body["messages"]):
                    return 400, {"error": {"message": message}}, {}
            return self.queued.pop(0) if self.queued else self.default

    def leave(self):
        with self._lock:
            self._now -= 1


def reply(text, top=None, finish="stop"):
    logprobs = None
    if top is not None:
        entries = [{"token": t, "logprob": p, "bytes": None} for t, p in top]
        logprobs = {"content": [{**entries[0], "top_logprobs": entries}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }


@pytest.fixture
def server():
    server = Server()
    yield server
    server.released.set()
    server.http.shutdown()
    server.http.server_close()


def ask(server, *requests, **fields):
    """Completions by request id, and the engine's final counters."""

    async def main():
        model = OpenAIModel(name="far", kind="openai", model="m", base_url=server.url, **fields)
        engine = RemoteEngine(model, first_delay_s=0.01)
        await engine.start()
        try:
            parts = [part async for part in engine.run(requests)]
            return {c.request_id: c for part in parts for c in part}, await engine.stats()
        finally:
            await engine.stop()

    return asyncio.run(asyncio.wait_for(main(), 60))


def request(name="a", **fields):
    return GenerationRequest(name, "answer", fields.pop("prompt", "Why?"), SamplingSpec(0.7, 0.8, 100, 5), **fields)


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
    done, stats = ask(server, request(), timeout_s=0.3)
    assert done["a"].text == "fine" and stats.num_retries == 1


def test_a_server_that_keeps_failing_ends_in_an_error_that_says_so(server):
    server.default = (500, {"error": {"message": "broken"}}, {})
    with pytest.raises(RemoteFailed, match="failed 3 times"):
        ask(server, request(), max_retries=2)
    assert len(server.requests) == 3


def test_a_ping_is_one_short_request_that_tells_whether_the_server_answers(server):
    async def ping():
        model = OpenAIModel(name="far", kind="openai", model="m", base_url=server.url, max_retries=1)
        engine = RemoteEngine(model, first_delay_s=0.01)
        await engine.start()
        await engine.ping()
        return await engine.stats()

    assert asyncio.run(ping()).num_decoded_tokens == 3  # paid for, so counted
    assert [request["max_tokens"] for request in server.requests] == [1]
    server.queued = [(400, {"error": {"message": "max_tokens must be 2 or more"}}, {})]
    asyncio.run(ping())  # it refuses the request, so it is there
    server.default = (503, {"error": {"message": "down"}}, {})
    with pytest.raises(RemoteFailed, match="failed 2 times"):
        asyncio.run(ping())


def test_a_wrong_key_is_not_tried_again_and_never_shown(server, monkeypatch, caplog):
    monkeypatch.setenv("FAR_KEY", KEY)
    server.default = (401, {"error": {"message": "wrong key"}}, {})
    with pytest.raises(RemoteFailed, match="check base_url, model and api_key") as raised:
        ask(server, request(), api_key="env:FAR_KEY")
    assert server.keys == [f"Bearer {KEY}"]
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
    server.refuses = {
        "structured_outputs": "Unrecognized request argument: structured_outputs",
        "logprobs": "logprobs is not supported with this model",
        "top_logprobs": "top_logprobs is not supported with this model",
        "max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
    }
    server.default = (200, reply("The best answer is (B)."), {})
    done, stats = ask(server, *(request(str(i), choices=("A", "B")) for i in range(4)), max_in_flight=4)
    assert {c.text for c in done.values()} == {"B"} and stats.num_served == 4
    assert all(c.choice_logprobs["B"] > c.choice_logprobs["A"] for c in done.values())
    last = server.requests[-1]
    assert last["max_completion_tokens"] == 100 and not {"max_tokens", "logprobs", "structured_outputs"} & set(last)


def test_a_system_prompt_is_folded_where_the_server_has_no_system_role(server):
    server.refuses = {"system": "System role not supported"}
    done, _ = ask(server, request(), system_prompt="Be brief.")
    assert done["a"].text == "fine"
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nWhy?"}]


@pytest.mark.parametrize("text", ["None of them.", "A better one is B"])
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
    server.refuses = {"seed": message}
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
