"""A tiny Qwen 3 that thinks, over vLLM: how it is asked, where its labels are read, and what its rows hold.

Its weights are random, so what it thinks means nothing; where everything stands is as in a real one.
"""

from __future__ import annotations

import math

import pytest
from engine_support import Running, generation, vllm_model
from thinking_templates import QWEN3
from tiny_models import FAMILIES, Family, build_tokenizer

from bohdi_ray.engines.vllm.params import generation_params
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.records import ScoreRequest
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder
from bohdi_ray.training.weights.versions import load_tokenizer

pytestmark = pytest.mark.timeout(300)
ANSWERS = ("A", "B", "C")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Qwen 3's tags are tokens of their own, though not control tokens."""
    import torch
    import transformers

    qwen = FAMILIES["qwen2"]
    tokenizer = build_tokenizer(Family("Qwen3Config", QWEN3, qwen.bos, qwen.eos, qwen.special))
    tokenizer.add_tokens(["<think>", "</think>"])
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
    )
    made = tmp_path_factory.mktemp("qwen3")
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def running(folder):
    roles = {"judge": {"reasoning_max_tokens": 16}, "answer": {"chat_template_kwargs": {"enable_thinking": True}}}
    running = Running(vllm_model(folder, sampling=roles), str(folder))
    yield running
    running.close()


def test_a_label_is_read_behind_the_reasoning(running):
    """Its log-probabilities are those that the same engine gives the labels as continuations of prompt and block."""
    request = generation("thinks", role="judge", choices=ANSWERS, temperature=0.0)
    done = running.ask(request)["thinks"]
    assert done.reasoning and done.text in ANSWERS and "think>" not in done.reasoning
    assert 16 < done.num_tokens + 1 <= 16 + 3
    answers = running.engine._answers
    style = answers._styles.style("judge", thinks=True)
    prompt = answers._prompt_text(request.prompt, style) + f"<think>\n{done.reasoning}\n</think>\n\n"

    async def scored():
        return [await answers._logprob_after(answers._encode(prompt), answers._encode(a)) for a in ANSWERS]

    logprobs = running.do(scored())
    total = math.log(sum(map(math.exp, logprobs)))
    assert [done.choice_logprobs[a] for a in ANSWERS] == pytest.approx([p - total for p in logprobs], abs=0.05)


def test_a_name_follows_the_reasoning_too_and_the_same_request_gives_the_same(running):
    request = generation("name", role="judge", regex="[A-F]{4}")
    once, again = running.ask(request)["name"], running.ask(request)["name"]
    assert len(once.text) == 4 and once.reasoning and once == again


def test_decoding_ends_in_front_of_what_ends_a_block(running):
    answers = running.engine._answers
    ids = answers.prompt_ids("Why is the sky blue?")
    options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 40, "seed": 1}

    async def decoded(**more):
        output = await answers._decode(ids, generation_params(**options, **more))
        return output.outputs[0]

    free = running.do(decoded())
    stop = next(token for token in free.token_ids[3:] if token not in free.token_ids[:3])
    before = list(free.token_ids).index(stop)
    ended = running.do(decoded(stop_token_id=stop))
    assert ended.finish_reason == "stop" and list(ended.token_ids) == list(free.token_ids[: before + 1])
    whole = answers._tokenizer.decode(free.token_ids[:before], skip_special_tokens=True)
    assert ended.text == whole.rstrip("\ufffd")  # half a character is held back
    letter = next(character for character in free.text if character.isascii())
    named = running.do(decoded(stop=letter))
    assert named.finish_reason == "stop" and named.text == free.text[: free.text.index(letter)]


def test_rows_of_the_target_begin_as_its_engine_is_asked(folder, running):
    """And the role's variables reach the template: asked to think, the engine gets the other prompt."""
    answers = running.engine._answers
    tokenizer = load_tokenizer(str(folder))
    row = Completion("s", "Why is the sky blue?", "Light is bent.", "Let me see.")
    off, keep = (
        Encoder(tokenizer, None, 256, None, mode).encode(row.question, row.answer, row.reasoning)
        for mode in ("off", "keep")
    )
    assert isinstance(off, EncodedRow) and isinstance(keep, EncodedRow)
    assert list(off.ids[: off.num_prompt]) == answers.prompt_ids(row.question)
    thinking = answers._styles.style("answer", thinks=True)
    assert list(keep.ids[: keep.num_prompt]) == answers.prompt_ids(row.question, thinking)
    assert tokenizer.decode(off.ids).endswith("assistant\n<think>\n\n</think>\n\nLight is bent.<|im_end|>")
    assert tokenizer.decode(keep.ids).endswith("assistant\n<think>\nLet me see.\n</think>\n\nLight is bent.<|im_end|>")


def test_scores_stand_behind_the_closed_block(running):
    request = ScoreRequest("s", "answer", "Why is the sky blue?", "Light is bent.")
    done = running.ask(request)["s"]
    answers = running.engine._answers
    expected = running.do(answers._logprob_after(answers.prompt_ids(request.prompt), answers._encode(request.answer)))
    assert done.logprob == pytest.approx(expected, abs=0.05)


def test_a_text_is_told_apart_and_obeys_its_own_limit(running):
    done = running.ask(generation("a", max_tokens=4))["a"]
    assert done.finish_reason == "length"
    assert len(running.engine._answers._encode(done.text.rstrip("\ufffd"))) <= 4
    assert done.num_tokens > 4  # it has the role's default room and does not know how to end
