"""Waiting for Ray: deadlines, waiting for several things at once, and the meaning of errors that Ray passes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any

from ray.exceptions import RayError, RayTaskError

from bohdi_ray.errors import BohdiError, DeadlineExceeded, EngineFailed, EngineRetired, RemoteFailed


async def all_or_none(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Runs all to their end. The first failure cancels the others and is raised once they have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancelled(tasks)


async def cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels the tasks that still run and waits for them to end; drops their errors."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def within(reference: Awaitable[Any], seconds: float, waited_for: str, remedy: str) -> Any:
    """The value of a Ray reference, with a deadline. Errors of this package are unwrapped from Ray's."""
    # Not wait_for: Python 3.11's swallows a cancellation that comes together with the value, and whoever cancelled a
    # loop of waits then waits for it without end.
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await reference
    except TimeoutError:
        if not deadline.expired():
            raise
        raise DeadlineExceeded(waited_for, seconds, remedy) from None
    except RayError as error:
        unwrapped = as_bohdi_error(error)
        if isinstance(unwrapped, BohdiError):
            raise unwrapped from error
        raise


def as_bohdi_error(error: BaseException) -> BaseException:
    """The error inside Ray's wrapping, or the error itself."""
    cause = getattr(error, "cause", None)
    if isinstance(error, RayTaskError) and isinstance(cause, BaseException):
        return as_bohdi_error(cause)
    return error


def is_engines_fault(error: BaseException) -> bool:
    """Whether `error` (unwrapped) means that the caller should avoid this replica: its engine died, hung, gave up or
    takes no more calls, or its server could not be reached or failed for good."""
    failed = isinstance(error, EngineFailed | EngineRetired | DeadlineExceeded | RemoteFailed | RayError)
    return failed and not isinstance(error, RayTaskError)
