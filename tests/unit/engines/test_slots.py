"""Slots let so many in at a time and say who waits, and how long they did."""

from __future__ import annotations

import asyncio
import time

from bohdi_ray.engines.vllm.slots import Slots


def test_a_request_waits_for_its_turn_and_its_wait_is_counted():
    async def work() -> None:
        slots, done = Slots(2), asyncio.Event()
        inside: list[int] = []

        async def request(number: int) -> None:
            async with slots.one():
                inside.append(number)
                await done.wait()

        tasks = [asyncio.ensure_future(request(number)) for number in range(3)]
        began = time.monotonic()
        await asyncio.sleep(0.05)
        assert inside == [0, 1]
        stats = slots.stats()
        assert (stats["num_waiting"], stats["num_begun"]) == (1, 2) and stats["waited_s"] < 0.04
        done.set()
        await asyncio.gather(*tasks)
        stats = slots.stats()
        assert (stats["num_waiting"], stats["num_begun"]) == (0, 3)
        assert 0.05 <= stats["waited_s"] <= time.monotonic() - began

    asyncio.run(work())


def test_who_gives_up_leaves_no_trace_and_a_failure_gives_its_slot_back():
    async def work() -> None:
        slots = Slots(1)

        async def failing() -> None:
            async with slots.one():
                await asyncio.sleep(0.01)
                raise ValueError

        first = asyncio.ensure_future(failing())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(failing())
        await asyncio.sleep(0)
        assert slots.stats()["num_waiting"] == 1
        second.cancel()
        assert [type(e) for e in await asyncio.gather(first, second, return_exceptions=True)] == [
            ValueError,
            asyncio.CancelledError,
        ]
        assert slots.stats()["num_waiting"] == 0 and slots.stats()["num_begun"] == 1
        async with asyncio.timeout(1), slots.one():
            assert slots.stats()["num_begun"] == 2

    asyncio.run(work())
