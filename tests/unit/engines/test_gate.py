"""The gate of an engine: many calls together, or one alone."""

import asyncio

import pytest

from bohdi_ray.engines.vllm.gate import Gate
from bohdi_ray.errors import EngineFailed, EngineRetired
from bohdi_ray.records import EngineReply


def completion(name):
    return EngineReply(name, "ada", 0, finish_reason="stop")


class ScriptedCall:
    """A call that is in the engine from its first look until it is told to end."""

    def __init__(self, log, name, alone=False, fails=False):
        self.log, self.name, self.alone, self.fails = log, name, alone, fails
        self.may_end = asyncio.Event()
        self.items = []

    async def answers(self):
        self.log.append(f"+{self.name}")
        try:
            await self.may_end.wait()
            if self.fails:
                raise EngineFailed("gone")
            yield [completion(self.name)]
        finally:
            self.log.append(f"-{self.name}")

    async def go(self, gate):
        async for item in gate.through(self.answers(), self.alone):
            self.items.append(item)


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def played(script, *calls):
    """The log of `script(tasks, calls)` over calls described as (name, alone) or (name, alone, fails)."""

    async def play():
        gate, log = Gate(beat_s=60, sign_s=0), []
        made = {name: ScriptedCall(log, name, *rest) for name, *rest in calls}
        tasks = {}

        def begin(name):
            tasks[name] = asyncio.ensure_future(made[name].go(gate))

        await asyncio.wait_for(script(begin, made, tasks), 10)
        await asyncio.wait_for(asyncio.gather(*tasks.values(), return_exceptions=True), 10)
        return log, made

    return asyncio.run(play())


def test_calls_pass_together_and_nothing_is_added_to_their_answers():
    async def script(begin, calls, tasks):
        begin("a"), begin("b")
        await settled()
        calls["a"].may_end.set(), calls["b"].may_end.set()

    log, calls = played(script, ("a", False), ("b", False))
    assert log == ["+a", "+b", "-a", "-b"]
    assert calls["a"].items == [[completion("a")]]


def test_one_that_is_to_be_alone_waits_for_those_inside_and_holds_those_behind_it():
    async def script(begin, calls, tasks):
        begin("a")
        await settled()
        begin("suspect")
        await settled()
        begin("b")
        await settled()
        calls["a"].may_end.set()
        await settled()
        assert set(map(str, calls["b"].items)) == {"None"} and calls["suspect"].items == [None, []]
        calls["suspect"].may_end.set()
        await settled()
        calls["b"].may_end.set()

    log, calls = played(script, ("a", False), ("suspect", True), ("b", False))
    assert log == ["+a", "-a", "+suspect", "-suspect", "+b", "-b"]
    assert calls["suspect"].items == [None, [], [completion("suspect")]]
    assert calls["b"].items[-2:] == [[], [completion("b")]]


def test_several_that_are_to_be_alone_go_one_after_another():
    async def script(begin, calls, tasks):
        begin("s"), begin("t"), begin("u")
        for name in "stu":
            await settled()
            calls[name].may_end.set()

    log, _ = played(script, ("s", True), ("t", True), ("u", True))
    assert log == ["+s", "-s", "+t", "-t", "+u", "-u"]


@pytest.mark.parametrize("how", ["fails", "left"])
def test_the_gate_opens_again_however_the_lonely_call_ended(how):
    async def script(begin, calls, tasks):
        begin("suspect"), begin("b")
        await settled()
        if how == "left":
            tasks["suspect"].cancel()
        calls["suspect"].may_end.set()
        await settled()
        calls["b"].may_end.set()

    log, calls = played(script, ("suspect", True, how == "fails"), ("b", False))
    assert log == ["+suspect", "-suspect", "+b", "-b"]
    assert calls["b"].items[-1] == [completion("b")]


def test_one_that_leaves_while_it_waits_holds_nobody():
    async def script(begin, calls, tasks):
        begin("a")
        await settled()
        begin("suspect")
        await settled()
        tasks["suspect"].cancel()
        await settled()
        begin("b")
        await settled()
        calls["a"].may_end.set(), calls["b"].may_end.set()

    log, _ = played(script, ("a", False), ("suspect", True), ("b", False))
    assert log == ["+a", "+b", "-a", "-b"]


def test_a_held_call_says_again_and_again_that_it_waits():
    async def work():
        gate = Gate(beat_s=0.01, sign_s=0)
        inside = ScriptedCall([], "a", alone=True)
        held = ScriptedCall([], "b")
        tasks = [asyncio.ensure_future(call.go(gate)) for call in (inside, held)]
        while len(held.items) < 3:
            await asyncio.sleep(0.01)
        inside.may_end.set(), held.may_end.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        return held.items

    assert asyncio.run(asyncio.wait_for(work(), 10))[:3] == [None] * 3


def test_a_closed_gate_lets_nobody_in_and_says_when_all_are_out():
    async def play():
        gate, log = Gate(beat_s=60, sign_s=0), []
        inside, late = ScriptedCall(log, "inside"), ScriptedCall(log, "late")
        call = asyncio.ensure_future(inside.go(gate))
        await settled()
        closing = asyncio.ensure_future(gate.close())
        await settled()
        with pytest.raises(EngineRetired):
            await late.go(gate)
        assert not closing.done() and log == ["+inside"]
        inside.may_end.set()
        await asyncio.wait_for(closing, 10)
        await call
        assert inside.items == [[completion("inside")]]

    asyncio.run(play())
