"""Waiting with a deadline: what is cancelled ends, whatever arrives at the same moment."""

import asyncio

import pytest

from bohdi_ray.deadlines import cancelled, within
from bohdi_ray.errors import DeadlineExceeded


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_that_comes_with_the_value_is_not_lost(turns):
    """Else a loop of such waits goes on after it was cancelled, and who cancelled it waits without end."""

    async def scenario() -> None:
        arrived = asyncio.get_running_loop().create_future()

        async def loop_of_waits() -> None:
            while True:
                await within(arrived if not arrived.done() else asyncio.sleep(60), 100, "a value", "")

        task = asyncio.ensure_future(loop_of_waits())
        for _ in range(5):
            await asyncio.sleep(0)
        arrived.set_result(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await cancelled([task])
        assert task.cancelled()

    asyncio.run(scenario())


def test_a_deadline_says_what_was_waited_for():
    async def scenario() -> None:
        with pytest.raises(DeadlineExceeded, match=r"the queue.*look at its log"):
            await within(asyncio.sleep(60), 0.01, "the queue", "look at its log")

    asyncio.run(scenario())


def test_a_timeout_of_what_is_waited_for_is_not_taken_for_the_deadline():
    async def failing() -> None:
        raise TimeoutError("its own")

    async def scenario() -> None:
        with pytest.raises(TimeoutError, match="its own"):
            await within(failing(), 60, "the queue", "")

    asyncio.run(scenario())
