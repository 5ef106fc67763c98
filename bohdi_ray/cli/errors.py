"""How the command line ends: errors become text with an exit code. Used by every command.

Exit codes: 0 done, or nothing was left to do; 1 the run failed, and can be resumed once the cause is fixed; 2 the input
or the run directory was refused; 130 stopped by Ctrl-C or SIGTERM, committed work is safe.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import Any

import click

from bohdi_ray.errors import (
    SAFE,
    SEE_LOGS,
    BohdiError,
    ConfigError,
    ConfigErrors,
    Interrupted,
    LeaseLost,
    RunDirError,
    RunFinished,
    StorageFailed,
)
from bohdi_ray.languages.terminal_text import message

DONE, RUN_FAILED, REFUSED, STOPPED = 0, 1, 2, 130
LABELS = {DONE: "finished", RUN_FAILED: "failed", REFUSED: "refused", STOPPED: "stopped"}


def exit_code(error: BaseException) -> int:
    """The exit code of the program for an error."""
    if isinstance(error, RunFinished):
        return DONE
    if isinstance(error, StorageFailed | LeaseLost):  # under a run, which goes on once that is mended
        return RUN_FAILED
    if isinstance(error, ConfigError | ConfigErrors | RunDirError):
        return REFUSED
    return STOPPED if isinstance(error, Interrupted | KeyboardInterrupt) else RUN_FAILED


def errors_as_text(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ends the program with a message and an exit code for errors that have a remedy and for Ray's errors. A bug keeps
    its traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigErrors as errors:
            for error in errors.errors:
                click.echo(f"refused: {message(str(error))}", err=True)
            sys.exit(REFUSED)
        except BohdiError as error:
            click.echo(f"{LABELS[exit_code(error)]}: {message(str(error))}", err=True)
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(STOPPED)
        except Exception as error:
            if (reason := _full_disk(error)) is not None:
                click.echo(f"failed: {message(reason)}", err=True)
                sys.exit(RUN_FAILED)
            if (reason := _rays_reason(error)) is None:
                raise
            click.echo(f"failed: {message(reason)}; {SEE_LOGS}", err=True)
            sys.exit(RUN_FAILED)

    return wrapped


def _full_disk(error: BaseException | None) -> str | None:
    """The message for a full disk, whichever component wrote there; None for other errors."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" under {error.filename}" if error.filename else ""
            return f"the disk{where} is full ({error.strerror}). Free some space there. {SAFE}"
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _rays_reason(error: Exception) -> str | None:
    """The reason in Ray's error, on one line; None for errors that are not Ray's. (If Ray raised it, Ray is imported
    already.)"""
    rays = sys.modules.get("ray.exceptions")
    if rays is None or not isinstance(error, rays.RayError):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # The error of a task is its traceback, which ends with what was raised; the others begin with what happened.
    line = lines[-1 if isinstance(error, rays.RayTaskError) else 0]
    return f"{type(error).__name__}: {line}".rstrip(".: ")


def require_extra(command: str, extra: str, *packages: str) -> None:
    """Raises ConfigError when packages that only this command needs are not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        rule = f"not installed: {', '.join(missing)}, of the extra `{extra}`"
        raise ConfigError("command", command, rule, f"Install it: pip install 'bohdi_ray[{extra}]'.")
