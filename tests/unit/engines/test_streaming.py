"""Answers stream as they finish; driven by futures, nothing waits for a clock."""

import asyncio

import pytest

from bohdi_ray.engines.vllm.streaming import as_they_finish
from bohdi_ray.errors import EngineFailed
from bohdi_ray.records import EngineReply


def completion(name):
    return EngineReply(name, "model", 0, finish_reason="stop")


async def answer(future):
    return await future


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_answers_that_are_ready_together_come_in_one_list():
    async def main():
        async def now(name):
            return completion(name)

        return [len(part) async for part in as_they_finish(asyncio.Queue(), [now(str(i)) for i in range(100)])]

    assert run(main()) == [100]


def test_an_answer_does_not_wait_for_a_slower_one():
    async def main():
        slow, fast = asyncio.Future(), asyncio.Future()
        stream = as_they_finish(asyncio.Queue(), [answer(slow), answer(fast)])
        fast.set_result(completion("fast"))
        first = await anext(stream)
        slow.set_result(completion("slow"))
        return [c.request_id for c in first], [c.request_id for c in await anext(stream)]

    assert run(main()) == (["fast"], ["slow"])


def test_closing_the_stream_cancels_what_is_not_finished():
    async def main():
        never, ready = asyncio.Future(), asyncio.Future()
        ready.set_result(completion("ready"))
        stream = as_they_finish(asyncio.Queue(), [answer(never), answer(ready)])
        await anext(stream)
        await stream.aclose()
        return never.cancelled()

    assert run(main())


def test_a_failure_of_the_engine_reaches_a_caller_that_waits_after_what_was_ready():
    async def main():
        queue, never, ready = asyncio.Queue(), asyncio.Future(), asyncio.Future()
        stream = as_they_finish(queue, [answer(never), answer(ready)])
        waiting = asyncio.ensure_future(anext(stream))
        await settle()
        ready.set_result(completion("ready"))
        await settle()
        queue.put_nowait(EngineFailed("died"))
        assert [c.request_id for c in await waiting] == ["ready"]
        with pytest.raises(EngineFailed):
            await anext(stream)
        return never.cancelled()

    assert run(main())


def test_an_exception_of_one_answer_is_raised():
    async def main():
        async def broken():
            raise RuntimeError("bug")

        return [part async for part in as_they_finish(asyncio.Queue(), [broken()])]

    with pytest.raises(RuntimeError, match="bug"):
        run(main())


def test_empty_lists_are_the_sign_of_life_of_an_engine_that_has_no_answer_yet():
    async def main():
        slow = asyncio.Future()
        stream = as_they_finish(asyncio.Queue(), [answer(slow)], beat_s=0)
        beats = [await anext(stream) for _ in range(3)]
        slow.set_result(completion("slow"))
        await settle()
        return beats, [c.request_id async for part in stream for c in part]

    assert run(main()) == ([[], [], []], ["slow"])


def test_no_requests_end_at_once():
    async def main():
        return [part async for part in as_they_finish(asyncio.Queue(), [])]

    assert run(main()) == []
