"""What harvesting and its questions need of the models: the `Models` protocol, and a way to ask several at once.

The driver's routing implements the protocol over engine actors; tests implement it in process. Failures of engines are
the implementation's business: it retries on another replica, and raises only when the run must stop. Harvest code sees
only an `EngineReply.error` or RequestQuarantined, which concern that one request, and SourceLeftOut, after which the
caller starts again with the remaining sources.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from bohdi_ray.errors import BohdiError, PromptTooLong
from bohdi_ray.records import EngineReply, EngineRequest

T = TypeVar("T")


class Models(Protocol):
    """The models a harvest task may ask, by name."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The available sources, in the configuration's order: fixed for one piece of work."""
        ...

    @property
    def target(self) -> str: ...

    async def ask(self, model: str, request: EngineRequest) -> EngineReply: ...


def error_name(error: BohdiError) -> str:
    """The name under which a request that could not be served is counted."""
    return "prompt_too_long" if isinstance(error, PromptTooLong) else "request_failed"


async def all_of(coroutines: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all concurrently; results in order. If one raises, the others are cancelled before its error is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
