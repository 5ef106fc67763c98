"""Delivers answers as they finish, all that are ready together; used by every kind of engine. Pure asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from bohdi_ray.records import EngineReply

RunQueue = asyncio.Queue[EngineReply | BaseException]
BEAT_S = 5.0  # without an answer, after which an empty list says that the engine is there


async def as_they_finish(
    queue: RunQueue, answers: Sequence[Coroutine[Any, Any, EngineReply]], beat_s: float = BEAT_S
) -> AsyncIterator[list[EngineReply]]:
    """Lists of what has finished since the last one, one completion for each of `answers`.

    Consumes: the coroutines. Produces: lists. Waits for: at least one to finish. Unblocked by: a finished one, or an
    exception, theirs or one that the engine puts into `queue`, which is raised, or by `beat_s` going by: then an empty
    list tells the caller that it waits for its turn, not for a dead process. Leaving early cancels the rest.
    """

    async def put(answer: Coroutine[Any, Any, EngineReply]) -> None:
        try:
            queue.put_nowait(await answer)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(put(answer)) for answer in answers]
    num_open = len(tasks)
    try:
        while num_open:
            try:
                async with asyncio.timeout(beat_s):
                    ready = [await queue.get()]
            except TimeoutError:
                yield []
                continue
            await asyncio.sleep(0)  # others that finished in the same step of the engine
            while not queue.empty():
                ready.append(queue.get_nowait())
            done = [item for item in ready if isinstance(item, EngineReply)]
            if done:
                yield done
            for item in ready:
                if isinstance(item, BaseException):
                    raise item
            num_open -= len(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
