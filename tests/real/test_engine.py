"""LLMEngine over vLLM on this CPU, with tiny models of two families.

Gemma 2 (embeddings tied, no system role) and Llama 3 (untied). Engines are started once each and put through their
life: cold start, questions, new weights, a failure, the end.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal

import pytest
from engine_support import Running, generation, published, scores, vllm_model
from long_cases import long

from bohdi_ray.engines.vllm.gate import Gate
from bohdi_ray.engines.vllm.processes import child_processes
from bohdi_ray.errors import ConfigError, EngineFailed, PromptTooLong, RequestRefused, WeightsMismatch
from bohdi_ray.records import ScoreRequest

pytestmark = pytest.mark.timeout(300)
SYSTEM = "You are a terse expert."


@pytest.fixture(scope="module", params=["gemma2", long(6, "llama")])
def family(request, tiny_model_dir, tmp_path_factory):
    """Versions 0 and 1 of one model as published folders, and the model's configuration."""
    tied = request.param == "gemma2"
    folder = tmp_path_factory.mktemp(f"published-{request.param}")
    weights = []
    for version in (0, 1):
        source = tiny_model_dir(request.param, tie_word_embeddings=tied, seed=version)
        model = vllm_model(source, system_prompt=SYSTEM)
        weights.append(published(model, folder / f"v{version}", version))
    return model, weights


@pytest.fixture(scope="module")
def running(family):
    """An engine started on version 0; later tests of this module load version 1 into it."""
    model, weights = family
    running = Running(model, weights[0])
    yield running
    if not running.loop.is_closed():
        running.close()


def test_a_cold_start_proves_the_published_weights(running):
    assert running.report.weights_version == 0
    assert running.report.mean_abs_difference < 0.05


def test_answers_are_stamped_counted_and_the_same_for_the_same_seed(running):
    done = running.ask(generation("a", seed=7), generation("b", seed=8))
    again = running.ask(generation("a", seed=7), generation("b", seed=8))
    assert done["a"].text == again["a"].text != done["b"].text
    assert done["a"].weights_version == 0 and done["a"].model == "tiny"
    assert done["a"].finish_reason in ("stop", "length") and 0 < done["a"].num_tokens <= 24
    assert done["a"].num_prompt_tokens > 10


def test_the_system_prompt_is_read_whether_or_not_the_template_has_a_role_for_it(running):
    answers = running.engine._answers
    end = answers._tokenizer.eos_token
    text = answers._tokenizer.decode(answers.prompt_ids(f"Hello{end}"))
    assert SYSTEM in text and text.index(SYSTEM) < text.index("Hello")
    turns = 1 if answers._shape.folded else 2
    assert text.count(end) == turns  # the template's, none of the user's
    assert text.count(answers._tokenizer.bos_token) == 1


def test_a_choice_comes_with_log_probabilities_normalised_over_the_choices(running):
    done = running.ask(
        generation("letters", choices=("A", "B", "C")), generation("alike", choices=("Good one", "Good two"))
    )
    for completion in done.values():
        assert completion.text in completion.choice_logprobs
        assert sum(math.exp(p) for p in completion.choice_logprobs.values()) == pytest.approx(1, abs=1e-6)
        assert completion.finish_reason == "stop"


def test_the_sampled_labels_follow_their_log_probabilities(running):
    requests = [generation(str(i), seed=i, choices=("A", "B", "C"), temperature=1.0) for i in range(150)]
    done = list(running.ask(*requests).values())
    expected = math.exp(done[0].choice_logprobs["A"])
    share = sum(c.text == "A" for c in done) / len(done)
    # Four standard errors; top_p 0.95 may cut off up to 0.05.
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(done)) + 0.06


def test_a_regex_is_kept_to_and_a_broken_one_fails_alone(running):
    done = running.ask(generation("good", regex="[A-Z][a-z]{2,5}"), generation("bad", regex="((("), generation("plain"))
    assert done["good"].text[0].isupper() and 3 <= len(done["good"].text) <= 6
    assert isinstance(done["bad"].error, RequestRefused) and done["plain"].error is None


def test_a_prompt_that_does_not_fit_fails_alone(running):
    long = "word " * 400
    done = running.ask(generation("long", long), ScoreRequest("score", "judge", "Hi", long), generation("short"))
    assert isinstance(done["long"].error, PromptTooLong) and isinstance(done["score"].error, PromptTooLong)
    assert done["short"].error is None


def test_an_answer_is_cut_at_the_window(running):
    done = running.ask(generation("a", "word " * 50, max_tokens=100_000, temperature=2.0))["a"]
    assert done.num_prompt_tokens + done.num_tokens <= 256 and done.error is None


def test_a_given_answers_log_probability_is_transformers_own(running, family):
    import torch
    from transformers import AutoModelForCausalLM

    answers = running.engine._answers
    prompt, answer = answers.prompt_ids("Why?"), answers._encode("Because of light.")
    network = AutoModelForCausalLM.from_pretrained(family[1][0], dtype=torch.float32)
    with torch.no_grad():
        logprobs = network(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    expected = sum(logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))
    done = running.ask(ScoreRequest("s", "judge", "Why?", "Because of light."))["s"]
    assert done.logprob == pytest.approx(expected, abs=0.05 * len(answer))
    assert done.num_bytes == 17 and done.num_tokens == 0


def test_requests_wait_for_an_engine_that_sleeps_and_are_answered_as_ever(running):
    """On a CPU vLLM moves nothing: what holds here is the order of its calls. tests/gpu sees the memory go and come."""

    async def through_a_sleep():
        await running.engine.sleep()
        await running.engine.sleep()
        asked = asyncio.ensure_future(anext(running.engine.run([generation("a", seed=7)])))
        await asyncio.sleep(1)
        assert not asked.done()
        await running.engine.health()
        await running.engine.wake()
        return (await asked)[0].text

    assert running.do(through_a_sleep()) == running.ask(generation("a", seed=7))["a"].text


def test_a_caller_that_goes_away_leaves_nothing_running(running):
    async def leave():
        stream = running.engine.run([generation("quick", max_tokens=1), generation("slow", max_tokens=200)])
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.2)
        return await running.engine.stats()

    assert running.do(leave()).num_in_flight == 0
    assert running.engine._llm.output_processor.get_num_unfinished_requests() == 0


def test_a_request_that_is_asked_alone_finds_the_engine_empty_and_is_answered_as_ever(running):
    gate, num_in_flight = Gate(), []

    async def through(request, alone=False):
        items = []
        async for item in gate.through(running.engine.run([request]), alone):
            if alone and item == []:
                num_in_flight.append((await running.engine.stats()).num_in_flight)
            items.append(item)
        return items

    async def together():
        asked = [asyncio.ensure_future(through(generation(f"n{i}", seed=i))) for i in range(4)]
        while not (await running.engine.stats()).num_in_flight:
            await asyncio.sleep(0.001)
        asked.append(asyncio.ensure_future(through(generation("alone", seed=9), alone=True)))
        asked.append(asyncio.ensure_future(through(generation("late", seed=10))))
        return await asyncio.gather(*asked)

    *_, alone, late = running.do(together())
    assert num_in_flight == [0]
    assert alone[0] is None and late[0] is None
    assert alone[-1][0].text == running.ask(generation("alone", seed=9))["alone"].text
    assert late[-1][0].error is None


def test_reloaded_weights_answer_exactly_as_a_cold_start_does(running, family):
    model, weights = family
    before = running.ask(*scores())
    report = running.do(running.engine.load_weights(1, weights[1]))
    assert report.progress == pytest.approx(1, abs=0.1) and report.trainer_change > 0.5
    reloaded = running.ask(*scores())
    cold = Running(model, weights[1], version=1)
    try:
        started_cold = cold.ask(*scores())
    finally:
        cold.close()
    for name, completion in reloaded.items():
        assert completion.logprob == started_cold[name].logprob
        assert completion.logprob != before[name].logprob
        assert completion.weights_version == 1


def test_weights_that_are_not_the_trainers_are_refused_and_the_engine_serves_no_more(running, family, tmp_path):
    weights = family[1]
    lying = tmp_path / "lying"
    shutil.copytree(os.path.dirname(weights[0]), lying)  # weights of version 0 with the probe of version 1
    shutil.copy(os.path.join(os.path.dirname(weights[1]), "probe.json"), lying)
    with pytest.raises(WeightsMismatch):
        running.do(running.engine.load_weights(1, str(lying / "weights")))
    with pytest.raises(WeightsMismatch):
        running.ask(generation("a"))
    with pytest.raises(EngineFailed):
        running.do(running.engine.health())


def test_stopping_leaves_no_process(running):
    assert running.engine._processes
    running.close()
    assert not any(process.is_running() for process in running.engine._processes)


def test_an_unknown_key_of_engine_extra_is_named(tiny_model_dir):
    model = vllm_model(tiny_model_dir("qwen2"))
    model = model.model_copy(update={"engine": model.engine.model_copy(update={"extra": {"no_such": 1}})})
    with pytest.raises(ConfigError, match=r"engine\.extra.*no_such"):
        Running(model, model.model)


@pytest.mark.usefixtures("spawned_engines")
def test_a_sources_engine_proves_nothing_and_when_it_hangs_fails_its_callers_and_can_still_be_stopped(
    tiny_model_dir, tmp_path
):
    model = vllm_model(tiny_model_dir("qwen2"))
    before = child_processes()
    # A published folder, used as a source: version 0, with the probe of version 1 beside it.
    running = Running(model, published(model, tmp_path / "published", 1), proves=False, idle_s=2.0)
    assert running.report is None
    stopped = max(child_processes() - before, key=lambda process: process.memory_info().rss)
    stopped.send_signal(signal.SIGSTOP)
    with pytest.raises(EngineFailed, match="hangs"):
        running.ask(generation("a"))
    with pytest.raises(EngineFailed, match="hangs"):
        running.do(running.engine.health())
    running.close()
    assert not child_processes() - before


def test_an_engine_whose_process_dies_fails_its_callers(tiny_model_dir):
    model = vllm_model(tiny_model_dir("mistral"))
    before = child_processes()
    running = Running(model, model.model)

    async def die():
        stream = running.engine.run([generation("a", max_tokens=200)])
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        for process in child_processes() - before:
            process.kill()
        return await waiting

    with pytest.raises(EngineFailed):
        running.do(die())
    running.close()
    assert not child_processes() - before
