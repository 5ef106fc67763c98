"""LLMEngine's own rules, over a scripted AsyncLLM: slots and clocks, failures of vLLM, and of a start."""

import asyncio
from types import SimpleNamespace

import pytest

from bohdi_ray.actors.engine_actor import engine_spec
from bohdi_ray.config import EngineArgs, FusionConfig, VllmModel
from bohdi_ray.engines.spec import EngineSpec
from bohdi_ray.engines.vllm.engine import LLMEngine
from bohdi_ray.errors import EngineFailed
from bohdi_ray.records import EngineReply, GenerationRequest, SamplingSpec

GRAMMAR = SimpleNamespace(structured_outputs="a grammar")


class ScriptedLLM:
    """Each request waits until its future is set to a finish reason."""

    def __init__(self):
        self.asked: list[asyncio.Future] = []

    async def generate(self, prompt, params, request_id):
        self.asked.append(asyncio.Future())
        reason = await self.asked[-1]
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[1, 2], text="x", finish_reason=reason)])


class PlainAnswers:
    """Answers without a tokenizer: every request is the same token."""

    def __init__(self, engine):
        self._engine = engine

    async def answer(self, request, weights_version):
        await self._engine._finished([1], None)
        return EngineReply(request.request_id, "m", weights_version, finish_reason="stop")


def model(**engine):
    return VllmModel(name="m", model="/models/m", engine=EngineArgs(**engine))


def engine_of(**engine):
    made = LLMEngine(EngineSpec(model=model(**engine), path="/models/m"))
    made._llm, made._answers = ScriptedLLM(), PlainAnswers(made)
    made._open.set()
    return made


def request(name):
    return GenerationRequest(name, "answer", "Why?", SamplingSpec(0.7, 0.9, 10, 0))


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_requests_beyond_max_num_seqs_wait_without_a_clock():
    async def main():
        engine = engine_of(max_num_seqs=2)
        stream = engine.run([request(str(i)) for i in range(5)])
        first = asyncio.ensure_future(anext(stream))
        await settle()
        assert len(engine._llm.asked) == len(engine._in_flight) == 2
        engine._llm.asked[0].set_result("stop")
        assert len(await first) == 1
        await settle()
        assert len(engine._llm.asked) == 3 and len(engine._in_flight) == 2
        await stream.aclose()
        await settle()
        assert len(engine._in_flight) == 0

    run(main())


def test_a_request_that_waits_is_answered_with_the_weights_of_its_turn():
    async def main():
        engine = engine_of(max_num_seqs=1)
        engine._open.clear()
        waiting = asyncio.ensure_future(anext(engine.run([request("a")])))
        await settle()
        assert engine._llm.asked == []
        engine._weights_version = 4
        engine._open.set()
        await settle()
        engine._llm.asked[0].set_result("stop")
        return (await waiting)[0].weights_version

    assert run(main()) == 4


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_request_that_vllm_gives_up_fails_the_engine(reason):
    async def main():
        engine = engine_of()
        waiting = asyncio.ensure_future(anext(engine.run([request("a")])))
        await settle()
        engine._llm.asked[0].set_result(reason)
        with pytest.raises(EngineFailed, match=reason):
            await waiting
        with pytest.raises(EngineFailed, match=reason):
            await anext(engine.run([request("b")]))

    run(main())


def test_a_grammar_that_vllm_cannot_follow_is_the_requests_own_fault():
    async def main():
        engine = engine_of()
        waiting = asyncio.ensure_future(engine._finished([1], GRAMMAR))
        await settle()
        engine._llm.asked[0].set_result("error")
        assert (await waiting).outputs[0].finish_reason == "error"  # which answers.py refuses
        engine._raise_if_failed()

    run(main())


def test_only_the_folder_that_was_published_is_proved():
    config = FusionConfig.model_construct(
        seed=0,
        deadlines=SimpleNamespace(idle_s=1, request_s=1, weights_s=1),
        weights=SimpleNamespace(tolerance=0.1),
    )
    assert engine_spec(model(), 3, "/run/checkpoints/base/weights", config).proves
    assert not engine_spec(model(), 0, None, config).proves
