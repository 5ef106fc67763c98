"""Events that can end a run from outside its main loop: Ctrl-C, SIGTERM, and failures seen by a watch.

The first signal requests a stop with a drain; a second one ends the program at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from bohdi_ray.deadlines import cancelled
from bohdi_ray.driver.harvest_round import stopped
from bohdi_ray.run.run_dir import RunDir

T = TypeVar("T")


@contextlib.contextmanager
def stopping_on_signals(stop_asked: asyncio.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Sets `stop_asked` at the first signal and says so; afterwards signals have their default effect."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ask() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        tell("stopping: work in progress may finish within deadlines.drain_s; a second Ctrl-C ends at once")
        stop_asked.set()

    try:
        for number in numbers:
            loop.add_signal_handler(number, ask)
    except (ValueError, RuntimeError):  # not the main thread, in a test or a notebook: no signals to handle
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def unless_stopped(work: Coroutine[Any, Any, T], stop_asked: asyncio.Event, run: RunDir) -> T:
    """Runs `work`, which needs no drain, and returns its result. Raises Interrupted as soon as a stop is requested."""
    main = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stop_asked.wait())
    try:
        await asyncio.wait([main, stop], return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            raise stopped(run)
        return await main
    finally:
        await cancelled([main, stop])


async def supervised(work: Coroutine[Any, Any, T], watches: Iterable[Coroutine[Any, Any, None]]) -> T:
    """Runs `work` and returns its result; if a watch fails, cancels `work` at once and raises that failure."""
    main = asyncio.ensure_future(work)
    watchers = [asyncio.ensure_future(watch) for watch in watches]
    try:
        await asyncio.wait([main, *watchers], return_when=asyncio.FIRST_COMPLETED)
        for watcher in watchers:
            if watcher.done() and not main.done():
                watcher.result()
        return await main
    finally:
        await cancelled([main, *watchers])
