"""Separates a model's reasoning from its answer. Pure: text in, text out.

Called by both kinds of engine on every text they decode, and by harvest/ on reasoning that an engine left in the text.
It knows how families write reasoning (`DIALECTS`, `HARMONY`); what one model does, and how it is asked, belongs to
style.py. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from bohdi_ray.engines.families import Thinking
from bohdi_ray.records import EngineReply

# Why nothing is left behind the reasoning: its budget ended first, or the model ended its turn there.
ReasoningProblem = Literal["unfinished_reasoning", "only_reasoning"]

# Any model may write these, whether or not its family is known.
DIALECTS: tuple[Thinking, ...] = (
    Thinking("qwen3", "<think>", "</think>", "enable_thinking"),
    Thinking("mistral", "[THINK]", "[/THINK]"),
    Thinking("granite", "Here is my thought process:", "Here is my response:", "thinking"),
    Thinking("seed_oss", "<seed:think>", "</seed:think>"),
    Thinking("minimax_m3", "<mm:think>", "</mm:think>"),
    Thinking("cohere_command", "<|START_THINKING|>", "<|END_THINKING|>"),
    Thinking("gemma4", "<|channel>thought", "<channel|>", "enable_thinking"),
    Thinking("kimi_k2", "◁think▷", "◁/think▷"),
    Thinking("", "<thought>", "</thought>"),
    Thinking("", "<thinking>", "</thinking>"),
    Thinking("", "<reasoning>", "</reasoning>"),
)
# gpt-oss writes channels: analysis is reasoning, final is the answer.
HARMONY = Thinking("openai_gptoss", "<|channel|>analysis<|message|>", "<|end|>")
HARMONY_FINAL = "<|channel|>final<|message|>"
HARMONY_REPLY = "<|start|>assistant"
# What some families put around the answer that follows their reasoning.
WRAPPED = (("<response>", "</response>"), ("<answer>", "</answer>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>"))

_BLANK = " \t\r\n\f\v\ufeff\u200b"
_NEAR = 200  # characters of a line that are looked at for backticks
_HEADER = re.compile(r"(?:<\|start\|>[^<]{0,100})?<\|channel\|>([^\n]{0,200}?)<\|message\|>")
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.M)
_BARE_HARMONY = re.compile(r"analysis(?=[A-Z\"'(*\d])")  # channels of a server that left the control tokens out
_BARE_FINAL = re.compile(r"assistant\s?final")


@dataclass(frozen=True, slots=True)
class Split:
    """A decoded text in two parts, without the tags between them."""

    reasoning: str
    text: str
    problem: ReasoningProblem | None = None  # why `text` is empty although there was reasoning


def is_harmony(thinking: Thinking | None) -> bool:
    """Whether a model writes reasoning in channels rather than in one block."""
    return thinking is not None and (thinking.parser == HARMONY.parser or "<|channel|>" in thinking.start)


def split_reasoning(text: str, thinking: Thinking | None, opened: bool, finished: bool) -> Split:
    """Reasoning and answer of a decoded text; a text without reasoning comes back as it is.

    `thinking`: the model's own way, if known; blocks at the start in another way are found too. `opened`: the prompt
    ended inside a block, so the text begins in one. `finished`: the model ended its turn itself. Reasoning is: blocks
    at the start; all before an end tag on a line of its own that nothing opened (the prompt did); once there was one of
    these, further blocks that begin a line outside of code. Tags anywhere else are part of the answer.
    """
    if is_harmony(thinking) or (thinking is None and not opened and _HEADER.match(text.lstrip(_BLANK))):
        return _split_channels(text, opened, finished)
    if thinking is None and not opened and _BARE_HARMONY.match(text) and _BARE_FINAL.search(text):
        return _split_channels(text, opened, finished)
    known = DIALECTS if thinking is None else (thinking, *DIALECTS)
    thoughts: list[str] = []
    at = begun = _past_blank(text, 0)
    way = None
    if opened:  # models write the start tag again now and then
        way = known[0]
        at = _past_tag(text, way.start, at) or at
    else:
        way, at = _leading_block(text, at, known)
    while way is not None:
        end = _end_tag(text, at, way)
        if end is None and way.start[0].isalpha() and (finished or way is not thinking):
            at = begun  # it is a sentence that any answer may begin with
            break
        if end is None:
            return _split([*thoughts, text[at:]], "", finished)
        again = _orphan_end(text, end.end(), (way,)) if _start_tag(text, at, end.start(), way) else None
        thoughts.append(text[at : end.start()] if again is None else text[at : again.start()])
        at = begun = _past_blank(text, (again or end).end())
        used = way
        way, at = _leading_block(text, at, (used, *(other for other in known if other is not used)))
        known = (way or used, *DIALECTS)
    if not thoughts:
        orphan = _orphan_end(text, 0, known, alone=True)
        if orphan is None:
            return Split("", text)
        thoughts, at = [text[: orphan.start()]], orphan.end()
    rest, inner = _without_inner_blocks(_unwrapped(text[at:].strip(_BLANK), finished), known[0])
    return _split([*thoughts, *inner], rest, finished)


def without_reasoning(done: EngineReply) -> EngineReply:
    """The completion with any reasoning removed from its text, whichever engine made it."""
    if done.error is not None or not done.text:
        return done
    split = split_reasoning(done.text, None, False, done.finish_reason != "length")
    if not split.reasoning and split.problem is None and split.text == done.text:
        return done
    reasoning = "\n\n".join(filter(None, (done.reasoning, split.reasoning)))
    return replace(done, text=split.text, reasoning=reasoning)


def reasoning_problem(done: EngineReply) -> ReasoningProblem | None:
    """Why a reply that has reasoning has no answer after it; None for any other reply."""
    if done.text.strip() or not done.reasoning:
        return None
    return "unfinished_reasoning" if done.finish_reason == "length" else "only_reasoning"


def _split(thoughts: list[str], text: str, finished: bool) -> Split:
    reasoning = "\n\n".join(filter(None, (thought.strip(_BLANK) for thought in thoughts)))
    text = text.strip(_BLANK)
    if text:
        return Split(reasoning, text)
    return Split(reasoning, "", "only_reasoning" if finished else "unfinished_reasoning")


@lru_cache(maxsize=256)
def _tag(tag: str) -> re.Pattern[str]:
    """A tag as models write it: quantised Granite models contract "Here is"."""
    return re.compile(re.escape(tag).replace(r"Here\ is", r"Here(?:\ is|['’]s)"))


def _past_tag(text: str, tag: str, at: int) -> int | None:
    match = _tag(tag).match(text, at) if text.startswith(tag[0], at) else None
    return match.end() if match else None


def _past_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _leading_block(text: str, at: int, known: Iterable[Thinking]) -> tuple[Thinking | None, int]:
    """The tag style of the block that begins here, and where its content begins."""
    for way in known:
        if inside := _past_tag(text, way.start, at):
            return way, inside
    return None, at


def _end_tag(text: str, at: int, way: Thinking) -> re.Match[str] | None:
    """The first end tag from here on that is not quoted."""
    if way.end[0] not in text:  # most texts hold no tag at all, and there are many to look for
        return None
    return next((match for match in _tag(way.end).finditer(text, at) if not _is_quoted(text, match)), None)


def _start_tag(text: str, at: int, until: int, way: Thinking) -> re.Match[str] | None:
    found = _tag(way.start).finditer(text, at, until)
    return next((match for match in found if not _is_quoted(text, match)), None)


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    """Whether a tag stands between backticks of its line."""
    before = text[max(0, match.start() - _NEAR) : match.start()].rpartition("\n")[2]
    after = text[match.end() : match.end() + _NEAR].partition("\n")[0]
    return before.count("`") % 2 == 1 and "`" in after


def _orphan_end(text: str, at: int, known: tuple[Thinking, ...], alone: bool = False) -> re.Match[str] | None:
    """The first end tag from this position on whose block was not opened; with `alone` the tag must have a line of its
    own."""
    for way in known:
        end = None if way.start[0].isalpha() else _end_tag(text, at, way)
        if end is None or _start_tag(text, at, end.start(), way) or _in_fence(text[at : end.start()]):
            continue
        before = text[max(at, end.start() - _NEAR) : end.start()].rpartition("\n")[2]
        after = text[end.end() : end.end() + _NEAR].partition("\n")[0]
        if not alone or not (before + after).strip(_BLANK):
            return end
    return None


def _in_fence(before: str) -> bool:
    return len(_FENCE.findall(before)) % 2 == 1


def _unwrapped(text: str, finished: bool) -> str:
    for opening, closing in WRAPPED:
        if text.startswith(opening):
            inner = text[len(opening) :]
            if inner.endswith(closing):
                return inner[: -len(closing)].strip(_BLANK)
            return text if finished and closing in inner else inner.strip(_BLANK)
    return text


def _without_inner_blocks(text: str, way: Thinking) -> tuple[str, list[str]]:
    """The answer without further reasoning blocks that begin a line outside code, and the text of those blocks."""
    thoughts: list[str] = []
    kept: list[str] = []
    fenced, at, done = False, 0, 0
    while at < len(text):
        newline = text.find("\n", at)
        following = len(text) if newline < 0 else newline + 1
        if _FENCE.match(text, at):
            fenced = not fenced
        elif not fenced and (inside := _past_tag(text, way.start, at)):
            end = _end_tag(text, inside, way)
            if end is None:
                break
            thoughts.append(text[inside : end.start()])
            kept.append(text[done:at].rstrip(_BLANK))
            done = following = _past_blank(text, end.end())
        at = following
    kept.append(text[done:])
    return "\n\n".join(filter(None, kept)), thoughts


def _split_channels(text: str, opened: bool, finished: bool) -> Split:
    """gpt-oss: the messages of the final channel are the answer, those of any other are reasoning."""
    if opened:
        text = HARMONY.start + text
    headers = list(_HEADER.finditer(text))
    if not headers:
        return _split_bare_channels(text, finished)
    thoughts: list[str] = []
    answers: list[str] = []
    before = _MESSAGE_END.split(text[: headers[0].start()], maxsplit=1)[0].strip(_BLANK)
    if before:  # the prompt opened the first message, and what it opens is the final channel
        answers.append(before)
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = text[header.end() : following.start() if following else len(text)]
        body = _MESSAGE_END.split(body, maxsplit=1)[0].strip(_BLANK)
        (answers if header[1].split()[:1] == ["final"] else thoughts).append(body)
    return _split(thoughts, "\n\n".join(filter(None, answers)), finished)


def _split_bare_channels(text: str, finished: bool) -> Split:
    """Splits channels in text from a decoder that skips control tokens: "analysisLet me see.assistantfinalIt is 4."."""
    text = _MESSAGE_END.split(text, maxsplit=1)[0]
    start = _BARE_HARMONY.match(text)
    if start is None:
        return Split("", text)
    final = None
    for final in _BARE_FINAL.finditer(text):  # noqa: B007  (the last one: reasoning may name it)
        pass
    if final is None:
        return _split([text[start.end() :]], "", finished)
    return _split([text[start.end() : final.start()]], text[final.end() :], finished)
