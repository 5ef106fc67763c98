"""What can end a run from outside its main loop: Ctrl-C and SIGTERM, and what a watch beside it sees.

The first signal asks for a stop with a drain, a second one ends the program at once.
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
    """Sets `stop_asked` at the first signal and says so; from then on signals do what they do in any program."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ask() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        tell("stopping: work under way may end within deadlines.drain_s; a second Ctrl-C ends at once")
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
    """The result of `work`, in which there is nothing to drain. Raises Interrupted as soon as a stop is asked for."""
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
    """The result of `work`; a failure that a watch sees ends it at once instead of leaving it waiting."""
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
