"""Stopping: waits with nothing to drain end at once, failures seen by a watch end the work, groups end together."""

import asyncio
import os
import signal

import pytest

from bohdi_ray.deadlines import all_or_none
from bohdi_ray.driver.signals import stopping_on_signals, supervised, unless_stopped
from bohdi_ray.errors import EngineFailed, Interrupted, TrainingFailed
from bohdi_ray.run.run_dir import RunDir


async def forever(ended: list | None = None):
    try:
        await asyncio.Event().wait()
    finally:
        if ended is not None:
            ended.append(True)


async def soon(value):
    await asyncio.sleep(0)
    return value


async def failing(error):
    await asyncio.sleep(0)
    raise error


def test_the_first_signal_asks_for_a_stop_and_the_second_acts_as_in_any_program(tmp_path):
    said = []

    async def work():
        stop = asyncio.Event()
        with stopping_on_signals(stop, said.append):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(stop.wait(), 5)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    assert len(said) == 1
    assert "a second Ctrl-C ends at once" in said[0]


def test_a_stop_ends_a_wait_and_says_where_the_samples_are(tmp_path):
    ended = []

    async def work():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_soon(stop.set)
        await unless_stopped(forever(ended), stop, RunDir(tmp_path / "run"))

    with pytest.raises(Interrupted, match=f"committed so far are kept in {tmp_path}/run"):
        asyncio.run(work())
    assert ended == [True]


def test_without_a_stop_a_wait_gives_its_result_or_error(tmp_path):
    async def work(coroutine):
        return await unless_stopped(coroutine, asyncio.Event(), RunDir(tmp_path))

    assert asyncio.run(work(soon(3))) == 3
    with pytest.raises(TrainingFailed):
        asyncio.run(work(failing(TrainingFailed("dead"))))


def test_a_failure_that_a_watch_sees_ends_the_work_and_the_other_watches():
    ended = []
    with pytest.raises(TrainingFailed):
        asyncio.run(supervised(forever(ended), [forever(ended), failing(TrainingFailed("dead"))]))
    assert ended == [True, True]


def test_the_end_of_the_work_ends_the_watches():
    ended = []
    assert asyncio.run(supervised(soon("rounds"), [forever(ended)])) == "rounds"
    assert ended == [True]


def test_an_error_of_the_work_itself_is_raised():
    with pytest.raises(EngineFailed):
        asyncio.run(supervised(failing(EngineFailed("gone")), [forever()]))


def test_the_first_failure_of_a_group_is_raised_once_the_others_have_ended():
    ended = []
    with pytest.raises(EngineFailed):
        asyncio.run(all_or_none([forever(ended), failing(EngineFailed("gone")), forever(ended)]))
    assert ended == [True, True]
