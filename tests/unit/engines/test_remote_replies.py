"""How servers write an answer: why it ended, text in parts, reasoning, labels with positions, errors in an HTTP 200."""

from __future__ import annotations

import math

import pytest
from openai_server import helpful, logprobs, reply, request, serving

from bohdi_ray.engines.openai.capabilities import FIRST_ROOM, LAST_ROOM
from bohdi_ray.engines.openai.probes import LABEL
from bohdi_ray.engines.openai.replies import alternatives, completion_of, read
from bohdi_ray.engines.vllm.choices import UNLIKELY
from bohdi_ray.errors import RemoteFailed, RequestRefused
from bohdi_ray.records import EngineReply, SamplingSpec

BASE = EngineReply("a", "far", 0)
LABEL_SPEC = SamplingSpec(0.0, 1.0, 8, 5)


@pytest.fixture
def server():
    with serving() as server:
        yield server


def done_with(content, **fields):
    choices = fields.pop("choices", None)
    return completion_of(reply(content, **fields), request(choices=choices), BASE)


@pytest.mark.parametrize(
    "reason",
    [
        *("stop", "eos", "eos_token", "stop_sequence", "end_turn", "STOP", "FinishReason.STOP", None, ""),
        *("end_of_text", "endoftext", "eot", "end_of_turn", "endTurn", "end-turn", "eos-token", "eos_token_id", "null"),
        *("stopped", "stop:eos", "FINISH_REASON_STOP", "COMPLETED", {"type": "stop"}),
    ],
)
def test_an_answer_that_the_model_ended_is_one(reason):
    done = done_with("fine", finish=reason)
    assert (done.text, done.finish_reason, done.error) == ("fine", "stop", None)


@pytest.mark.parametrize(
    "reason",
    [
        *("length", "max_tokens", "MAX_TOKENS", "model_length", "token_limit", "max-tokens", "maxTokens", "time_limit"),
        *("FINISH_REASON_MAX_TOKENS", "context_window_exceeded", {"type": "length", "length": 16}),
    ],
)
def test_an_answer_that_ran_out_of_room_is_truncated(reason):
    assert done_with("fine", finish=reason).finish_reason == "length"


@pytest.mark.parametrize(
    "reason",
    [
        *(
            "content_filter",
            "SAFETY",
            "RECITATION",
            "refusal",
            "tool_calls",
            "function_call",
            "other",
            7,
            False,
            ["stop"],
        ),
        *("contentFilter", "content-filter", "ERROR_TOXIC", "FINISH_REASON_UNSPECIFIED", {"type": "safety"}, {"a": 1}),
    ],
)
def test_an_answer_that_was_withheld_is_none(reason):
    done = done_with("half of it", finish=reason)
    assert isinstance(done.error, RequestRefused) and str(reason) in str(done.error) and done.text == ""


def test_without_text_and_reason_there_is_no_answer():
    for reason in (None, "null"):
        assert isinstance(done_with(None, finish=reason).error, RequestRefused)
    declined = done_with(None, refusal="I cannot help with that.")
    assert isinstance(declined.error, RequestRefused) and "cannot help" in str(declined.error)


def test_an_answer_that_is_broken_off_is_asked_for_again(server):
    for reason in ("error", "network_error", "insufficient_system_resource", "abort", "serverError", "CANCELLED"):
        server.queued = [(200, reply("hal", finish=reason), {})]
        assert server.ask(request())["a"].text == "fine"


def test_a_withheld_answer_fails_alone_and_its_tokens_count(server):
    server.queued = [(200, reply("A", finish="content_filter"), {})]
    done, stats = server.ask_all(request("a", choices=("A", "B")), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, RequestRefused) and done["b"].text == "fine" and stats.num_decoded_tokens == 6


PARTS = [
    ([{"type": "text", "text": "It is "}, {"type": "text", "text": "four."}], "It is four.", ""),
    (["It is ", "four."], "It is four.", ""),
    (
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}], "closed": True},
            {"type": "text", "text": "four"},
        ],
        "four",
        "2 and 2",
    ),
    ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "four"}], "four", "hm"),
    ([{"type": "reference", "reference_ids": [1]}, {"text": "four"}, None, 7, {"type": "image_url"}], "four", ""),
    ({"type": "text", "text": "four"}, "four", ""),
    ([{"type": "text", "text": {"value": "four", "annotations": []}}], "four", ""),
    ([{"type": "text", "value": "four"}], "four", ""),
    ([], "", ""),
]


@pytest.mark.parametrize(("content", "text", "reasoning"), PARTS)
def test_content_in_parts_is_put_together(content, text, reasoning):
    done = done_with(content)
    assert (done.text, done.reasoning, done.finish_reason) == (text, reasoning, "stop")


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "two and two"},
        {"reasoning": "two and two"},
        {"reasoning": {"text": "two and two"}},
        {"reasoning_details": [{"type": "reasoning.text", "text": "two and two", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "two and two"}]},
        {"reasoning": "two and two", "reasoning_details": [{"type": "reasoning.text", "text": "two and two"}]},
        {"thinking": "two and two"},
    ],
)
def test_reasoning_is_kept_apart_whatever_its_field(message):
    done = done_with("four", **message)
    assert (done.text, done.reasoning) == ("four", "two and two")


def test_reasoning_inside_of_the_text_is_taken_out():
    done = done_with("<think>two and two</think>\n\nfour")
    assert (done.text, done.reasoning) == ("four", "two and two")


CUT = {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 8}}


@pytest.mark.parametrize(
    "starved",
    [
        reply("", finish="length", reasoning_content="Well, A is"),
        reply(None, finish="length", usage=CUT),
        reply("", finish="MAX_TOKENS", usage={"completion_tokens": 8, "reasoning_tokens": 8}),
        reply("<think>Well, A is", finish="length"),
        reply("", finish="length", usage={"completion_tokens": 8}),
        reply(None, finish="length", usage={"completion_tokens": 8, "completion_tokens_details": None}),
        {
            "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant"}}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 48},
        },
        {"error": {"message": "Could not finish the message because max_tokens or model output limit was reached."}},
    ],
)
def test_a_label_whose_room_is_gone_with_reasoning_gets_more_and_so_do_all_after_it(server, starved):
    roomy = reply("A", usage={"completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 299}})
    server.default = lambda sent: (
        (200, roomy, {}) if sent["max_tokens"] > 500 else (200 if "choices" in starved else 400, starved, {})
    )
    done, stats = server.ask_all(
        *(request(n, choices=("A", "B"), sampling=LABEL_SPEC) for n in ("a", "b")), max_in_flight=1
    )
    assert done["a"].text == done["b"].text == "A" and done["a"].choice_logprobs["A"] > -0.01
    assert [sent["max_tokens"] for sent in server.requests] == [8, 8 + FIRST_ROOM, 8 + FIRST_ROOM]
    assert sum("reason" in text for text in stats.learned) == 1
    assert stats.num_decoded_tokens == 600 + (starved["usage"]["completion_tokens"] if "choices" in starved else 0)


def test_room_for_reasoning_is_bounded_and_the_failure_says_what_to_set(server):
    server.default = (200, reply("", finish="length", reasoning_content="Well..."), {})
    done = server.ask(request(choices=("A", "B"), sampling=LABEL_SPEC))
    assert [sent["max_tokens"] - 8 for sent in server.requests] == [0, 2048, 4096, 8192, LAST_ROOM]
    assert isinstance(done["a"].error, RequestRefused) and "sampling.judge.reasoning_max_tokens" in str(done["a"].error)
    with pytest.raises(RemoteFailed, match=r"sampling.answer.reasoning_max_tokens"):
        server.ask_all(ping=True)


def test_room_that_was_learned_gives_way_where_a_prompt_leaves_less_of_the_window(server):
    def windowed(sent):
        if sent["max_tokens"] > 1000:
            return 400, {"error": {"message": "This model's maximum context length is 1500 tokens."}}, {}
        if sent["max_tokens"] < 500:
            return 200, reply("", finish="length", usage=CUT), {}
        return 200, reply("A"), {}

    server.default = windowed
    done = server.ask(*(request(n, choices=("A", "B"), sampling=LABEL_SPEC) for n in ("a", "b")), max_in_flight=1)
    assert done["a"].text == done["b"].text == "A"
    assert [sent["max_tokens"] - 8 for sent in server.requests] == [0, 2048, 1024, 512, 2048, 1024, 512]


def test_configured_room_for_reasoning_is_added_and_kept_to(server):
    server.default = (200, reply("", finish="length", reasoning_content="Well..."), {})
    sampling = {"judge": {"reasoning_max_tokens": 100}}
    done = server.ask(request(choices=("A", "B"), sampling=LABEL_SPEC), sampling=sampling)
    assert [sent["max_tokens"] for sent in server.requests] == [108] and "with 100 for it" in str(done["a"].error)
    server.ask(request(sampling=SamplingSpec(0.7, 0.8, 100, 5, reasoning_max_tokens=50)))
    assert server.requests[-1]["max_tokens"] == 150
    server.ask(request(), sampling={"answer": {"reasoning_max_tokens": 0}})
    assert server.requests[-1]["max_tokens"] == 100
    assert server.requests[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_answer_that_reasoning_left_too_little_room_is_asked_for_again(server):
    usage = {"completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 90}}
    server.queued = [(200, reply("It is", finish="length", usage=usage), {})]
    assert server.ask(request())["a"].text == "fine"
    server.queued = [(200, reply("It is", finish="length", usage={"completion_tokens": 100}), {})]
    assert server.ask(request())["a"].finish_reason == "length", "an answer as long as it may be is truncated"


def test_a_label_is_read_where_the_answer_begins_and_not_in_the_reasoning():
    thought = [[("Well", -0.1), ("A", -2.0)], [("</think>", -0.1)], [("\n\n", 0.0)]]
    label = [("B", math.log(0.75)), ("A", math.log(0.25))]
    body = reply("B", reasoning_content="Well")
    body["choices"][0]["logprobs"] = logprobs(*thought, label, [("<|im_end|>", 0.0)])
    done = completion_of(body, request(choices=("A", "B")), BASE)
    assert math.exp(done.choice_logprobs["B"]) == pytest.approx(0.75)


def test_log_probabilities_in_the_lists_of_older_servers_are_read():
    old = {"tokens": ["B"], "token_logprobs": [-0.3], "top_logprobs": [{"B": -0.3, "A": -1.4}]}
    assert alternatives(old, "B") == [("B", -0.3), ("A", -1.4)]
    assert alternatives({"tokens": ["B"], "token_logprobs": [-0.3]}, "B") == [("B", -0.3)]
    assert alternatives({"tokens": [], "content": []}, "B") == alternatives(None, "B") == alternatives(7, "B") == []


IN_FRONT = [("A", -4.0), ("I", -5.0)]  # other beginnings of the reply than the one that was chosen
BEGUN = [("B", -0.01), ("A", -4.6)]


@pytest.mark.parametrize(
    "tokens",
    [
        ("**", "B", "**"),
        ("(", "B", ")"),
        ("Option", " B"),
        ("Answer", " B"),
        ("Answer", ":", " B"),
        ("Answer", ":", " ", "B"),
        ('"', "B", '"'),
        ("答案", "B"),
        ("\\", "boxed", "{", "B", "}"),
        ("\n", "B"),
        ("A", " is", " wrong", ".", "\n\n", "B"),
        ("B", "<|END_OF_TURN_B|>"),
        ("Ｂ",),
    ],
)
def test_probabilities_are_those_of_the_token_that_begins_the_label(tokens):
    place = max(i for i, token in enumerate(tokens) if token.strip() in ("B", "Ｂ"))
    positions = [[(token, -0.05), *(BEGUN if i == place else IN_FRONT)] for i, token in enumerate(tokens)]
    positions[place] = [(tokens[place], -0.01), ("A", -4.6)]
    body = reply("".join(token for token in tokens if not token.startswith("<|")).lstrip("\n"))
    body["choices"][0]["logprobs"] = logprobs(*positions)
    done = completion_of(body, request(choices=("A", "B")), EngineReply("a", "far", 0))
    assert done.text == "B" and done.choice_logprobs["A"] == pytest.approx(-4.6, abs=0.01)


@pytest.mark.parametrize("tokens", [("Answer: B",), ("答案B",), ("Option", " C"), ("\ufffd", "\ufffd")])
def test_a_label_whose_token_is_not_known_is_certain(tokens):
    text = tokens[0] if tokens[0].endswith("B") else "Option B"
    body = reply(text)
    body["choices"][0]["logprobs"] = logprobs(*([(token, -0.05), ("A", -0.1)] for token in tokens))
    done = completion_of(body, request(choices=("A", "B")), EngineReply("a", "far", 0))
    assert done.text == "B" and done.choice_logprobs["A"] == UNLIKELY


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Overloaded", "type": "overloaded_error"}},
        {"error": {"message": "Rate limit exceeded", "code": 429}},
        {"choices": None, "error": {"code": "503", "message": "no instances"}},
        {"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "Provider returned error"}}]},
        {"choices": [], "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}],
        {"success": False, "message": "temporarily unavailable, try again later"},
        {"detail": "Internal server error"},
        *(
            {
                "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": reason}],
                "error": {"code": 503, "message": "overloaded, try again"},
            }
            for content in ("", None, [])
            for reason in ("stop", None)
        ),
        {"statusCode": 429, "message": "slow down"},
        {"Message": "Too many requests"},
    ],
)
def test_a_passing_error_in_an_http_200_is_tried_again(server, body):
    server.queued = [(200, body, {})]
    done, stats = server.ask_all(request())
    assert done["a"].text == "fine" and stats.num_retries == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Your input was flagged", "code": 403}},
        {"error": {"message": "no such thing", "code": 400}},
        {"error": "no"},
        {"choices": None, "error": {"message": "maximum context length is 5 tokens"}},
        {"choices": None},
        {"choices": []},
        {"object": "chat.completion"},
        {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
    ],
)
def test_any_other_error_in_an_http_200_fails_its_request_alone(server, body):
    server.queued = [(200, body, {})]
    done, stats = server.ask_all(request("a"), request("b"), max_in_flight=1)
    assert done["a"].error is not None and done["b"].text == "fine" and stats.num_retries == 0


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "", "null", "7", '"text"', "[1, 2]"])
def test_something_else_than_a_completion_says_what_to_check(server, body):
    server.default = (200, body, {})
    with pytest.raises(RemoteFailed, match="base_url"):
        server.ask(request())


def test_a_single_page_fails_its_request_alone(server):
    server.queued = [(200, "<html>Welcome</html>", {})]
    done = server.ask(request("a"), request("b"), max_in_flight=1)
    assert isinstance(done["a"].error, RequestRefused) and done["b"].text == "fine"


def test_blank_lines_before_a_reply_do_not_matter(server):
    import json

    server.default = (200, "\n\n\n" + json.dumps(reply("four")), {})
    assert server.ask(request())["a"].text == "four"


def test_what_a_judge_wrote_stays_apart_from_its_label():
    reading = read(reply("The answer is (B)."), request(choices=("A", "B")), BASE)
    assert reading.written == "The answer is (B)."


def test_the_health_check_passes_with_a_model_that_reasons(server):
    def reasons(sent):
        status, body, headers = helpful(sent)
        if sent["max_tokens"] < 500:
            return status, reply("", finish="length", usage=CUT), headers
        return status, body, headers

    server.default = reasons
    _, stats = server.ask_all(ping=True)
    assert any("2048 more tokens" in text for text in stats.learned)


@pytest.mark.parametrize("message", [{"role": "assistant"}, {"role": "assistant", "content": ""}])
def test_the_health_check_passes_with_a_model_that_hides_its_reasoning_and_labels_are_read_after_it(server, message):
    def hides(sent):
        if sent["max_tokens"] < 500:
            usage = {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40 + sent["max_tokens"]}
            return 200, {"choices": [{"finish_reason": "length", "message": message}], "usage": usage}, {}
        return helpful(sent)

    server.default = hides
    asked = request("a", prompt=LABEL, choices=("A", "B"), sampling=LABEL_SPEC)
    done, stats = server.ask_all(asked, ping=True)
    assert done["a"].text == "A" and done["a"].choice_logprobs is not None
    assert not any("empty" in text or "names no label" in text for text in stats.learned)


def test_an_answer_with_text_counts_though_an_error_stands_beside_it(server):
    server.queued = [(200, {**reply("four"), "error": {"message": "a later failure"}}, {})]
    assert server.ask(request())["a"].text == "four"
