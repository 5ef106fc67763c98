"""What is reasoning in a decoded text, and what is the answer."""

from __future__ import annotations

import time

import pytest

from bohdi_ray.engines.chat.reasoning import DIALECTS, HARMONY, Split, split_reasoning, without_reasoning
from bohdi_ray.engines.families import Thinking
from bohdi_ray.errors import RequestRefused
from bohdi_ray.records import EngineReply

QWEN = Thinking("qwen3", "<think>", "</think>", "enable_thinking")
GRANITE = next(way for way in DIALECTS if way.parser == "granite")


def split(text: str, thinking: Thinking | None = None, opened: bool = False, finished: bool = True) -> Split:
    return split_reasoning(text, thinking, opened, finished)


@pytest.mark.parametrize("way", DIALECTS, ids=lambda way: way.start)
def test_a_block_at_the_start_is_reasoning_whether_or_not_the_family_is_known(way):
    text = f"{way.start}\nLet me see.\n{way.end}\n\nIt is four."
    assert split(text, way) == split(text) == Split("Let me see.", "It is four.")


@pytest.mark.parametrize("space", ["", "\n", " \r\n\t", "\ufeff", "\n\n\u200b"])
def test_space_around_a_block_does_not_matter(space):
    assert split(f"{space}<think>{space}Why.{space}</think>{space}So.{space}") == Split("Why.", "So.")


def test_a_text_without_reasoning_comes_back_as_it_is():
    for text in ["", "It is four.", " \n two lines\n", "analysis of variance is a test.", "<thinker>", "a < b"]:
        assert split(text) == split(text, QWEN) == split(text, HARMONY) == Split("", text)


def test_a_block_that_the_prompt_opened_ends_at_its_end_tag():
    assert split("Let me see.\n</think>\n\nIt is four.", QWEN, opened=True) == Split("Let me see.", "It is four.")
    again = "<think>\nLet me see.\n</think>\n\nIt is four."  # some write the start again
    assert split(again, QWEN, opened=True) == Split("Let me see.", "It is four.")


def test_an_end_tag_on_its_own_line_that_nothing_opened_ends_reasoning_too():
    assert split("Let me see.\n</think>\n\nIt is four.") == Split("Let me see.", "It is four.")


@pytest.mark.parametrize("text", ["Models close with </think> and go on.", "Write:\n```\n</think>\n```\nDone."])
def test_an_end_tag_in_prose_or_code_is_part_of_an_answer(text):
    assert split(text) == split(text, QWEN) == Split("", text)


@pytest.mark.parametrize(
    ("text", "opened"), [("<think>Let me", False), ("Let me", True), ("<think>Let me</think>", False)]
)
def test_with_nothing_behind_it_there_is_no_answer_and_the_reason_is_said(text, opened):
    assert split(text, QWEN, opened, finished=False) == Split("Let me", "", "unfinished_reasoning")
    assert split(text, QWEN, opened, finished=True) == Split("Let me", "", "only_reasoning")


def test_an_empty_block_is_no_reasoning_and_goes():
    assert split("<think>\n\n</think>\n\nIt is four.", QWEN) == Split("", "It is four.")


def test_several_blocks_at_the_start_and_blocks_that_begin_a_line_later_go():
    text = "<think>a</think>\n<think>b</think>\nFirst.\n<think>\nc\n</think>\nSecond."
    assert split(text, QWEN) == split(text) == Split("a\n\nb\n\nc", "First.\n\nSecond.")


def test_a_block_opened_twice_is_closed_twice():
    assert split("<think>a<think>b</think>c</think>It is four.").text == "It is four."


CODE = """Put the reasoning in tags, `<think>` and `</think>`, or inline: <think>why</think> so.

```python
prompt = '''
<think>
reasons
</think>
answer'''
```
    <think>indented</think>
Done."""


@pytest.mark.parametrize("before", ["", "<think>They ask about `</think>` and `<think>`.</think>\n\n"])
def test_an_answer_that_talks_about_tags_keeps_them(before):
    assert split(before + CODE).text == split(before + CODE, QWEN).text == CODE


def test_tags_around_the_answer_behind_reasoning_go_and_elsewhere_stay():
    assert split("<think>a</think>\n<response>\nIt is four.\n</response>") == Split("a", "It is four.")
    assert split("<think>a</think><answer>It is", finished=False).text == "It is"
    assert split("<answer>x</answer>").text == "<answer>x</answer>"


@pytest.mark.parametrize("here", ["Here is", "Here's", "Here’s"])
def test_granite_writes_sentences_for_tags_and_contracts_them(here):
    text = f"{here} my thought process:\nwhy\n\nHere is my response:\n\nIt is four."
    assert split(text, GRANITE) == split(text) == Split("why", "It is four.")


def test_granites_sentences_alone_are_what_any_answer_may_say():
    for text in ["Here is my thought process: add, then divide.", "Dear Ann,\n\nHere is my response:\n\nno."]:
        assert split(text) == split(text, GRANITE) == split(text, QWEN) == Split("", text)
    assert split("<think>a</think>Here is my thought process: b").text == "Here is my thought process: b"
    text = "Here is my thought process: add"
    assert split(text, GRANITE, finished=False) == Split("add", "", "unfinished_reasoning")


FINAL = "<|start|>assistant<|channel|>final<|message|>It is four.<|return|>"


def test_the_final_channel_is_the_answer_and_the_others_are_reasoning():
    text = "<|channel|>analysis<|message|>Let me see.<|end|>" + FINAL
    assert split(text) == split(text, HARMONY) == Split("Let me see.", "It is four.")
    call = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
    assert split("<|channel|>analysis<|message|>a<|end|>" + call + FINAL, HARMONY) == Split("a\n\n{}", "It is four.")


def test_a_channel_that_the_prompt_opened():
    assert split("Let me see.<|end|>" + FINAL, HARMONY, opened=True) == Split("Let me see.", "It is four.")
    assert split("It is four.", HARMONY) == Split("", "It is four.")


def test_channels_without_a_final_one_give_no_answer():
    text = "<|channel|>analysis<|message|>Let me"
    assert split(text, HARMONY, finished=False) == Split("Let me", "", "unfinished_reasoning")
    assert split(text + "<|end|>", HARMONY) == Split("Let me", "", "only_reasoning")


def test_channels_whose_control_tokens_were_skipped():
    text = "analysisWe need a number.assistantfinalIt is four."
    assert split(text) == split(text, HARMONY) == Split("We need a number.", "It is four.")
    assert split("analysisWe need", HARMONY, finished=False) == Split("We need", "", "unfinished_reasoning")


def test_a_completion_loses_the_reasoning_an_engine_left_in_and_keeps_it_in_the_record():
    done = EngineReply("id", "m", 0, text="<think>b</think>c", finish_reason="stop", reasoning="a")
    assert without_reasoning(done).text == "c" and without_reasoning(done).reasoning == "a\n\nb"
    for plain in [
        EngineReply("id", "m", 0, text="c", finish_reason="stop"),
        EngineReply("id", "m", 0, error=RequestRefused("no")),
    ]:
        assert without_reasoning(plain) is plain


@pytest.mark.parametrize(
    "text",
    [
        "<think>",
        "</think>\n",
        "`</think>`",
        "<think></think>",
        "a\n<think>x</think>\n",
        "<|channel|>",
        "<think>x</think>y\n",
    ],
)
def test_time_is_linear_in_the_length(text):
    started = time.perf_counter()
    for thinking, opened in ((QWEN, False), (QWEN, True), (None, False), (HARMONY, False)):
        split(text * 2000, thinking, opened)
        split("<think>x</think>y\n" + text * 2000, thinking, opened)
    assert time.perf_counter() - started < 5
