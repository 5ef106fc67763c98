"""Ray's job server, used from a machine that need not be part of the cluster: submit, follow, stop.

Wraps Ray's own client, over HTTP. Errors become ConfigErrors or JobErrors with a remedy; no token is ever shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi_ray.config.addresses import without_secrets
from bohdi_ray.config.job_paths import STOP_WAIT
from bohdi_ray.errors import BohdiError, ConfigError, JobError
from bohdi_ray.languages.terminal_text import one_line, printable
from bohdi_ray.placement.cluster_token import token_error
from bohdi_ray.placement.machines import knock

RUN_KEY, STOP_WAIT_KEY, VERSION_KEY = "bohdi_run", "bohdi_stop_wait_s", "bohdi_version"  # of a job's metadata
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client lets both win over what it is given
LOST_S = 120.0
POLL_S = 1.0
SERVER_WAITS_S = 30.0  # for the server to note what became of a job
SUCCEEDED, FAILED, STOPPED = "SUCCEEDED", "FAILED", "STOPPED"
ENDED = (SUCCEEDED, FAILED, STOPPED)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CHATTY = ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging")
Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JobState:
    """The server's information about a job."""

    status: str  # PENDING, RUNNING or one of ENDED
    exit_code: int | None  # of the driver, where it ended by itself
    message: str
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def program_exit_code(self) -> int:
        """The exit code for a program that followed the job: the driver's own code; 130 if it was stopped."""
        if self.status == STOPPED:
            return 130
        if self.status == SUCCEEDED:
            return 0
        code = self.exit_code or 1
        return code if code > 0 else 128 - code  # ended by a signal


def server_address(given: str | None) -> str:
    """The address of the job server as http://host:port. Raises ConfigError."""
    field_name, address = "--address", given
    for name in ADDRESSES:
        if address is None and os.environ.get(name):
            field_name, address = name, os.environ[name]
    remedy = "Give the dashboard of the head node: --address http://HEAD:8265."
    if address is None:
        raise ConfigError("--address", None, "no cluster is given", remedy)
    whole = address if "://" in address else f"http://{address}"
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", whole):
        shown = without_secrets(address)
        raise ConfigError(field_name, shown, "is not the address of a dashboard, where jobs are submitted", remedy)
    return whole.rstrip("/")


class JobServer:
    """The jobs of one cluster. Raises ConfigError if the server cannot be reached or refuses access."""

    def __init__(self, address: str | None):
        self.address = server_address(address)
        host = self.address.partition("://")[2].partition("/")[0]
        with self._errors():
            knock(host if ":" in host else f"{host}:{443 if self.address.startswith('https') else 80}")
            self._client = self._connected()

    def _connected(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        for module in _CHATTY:
            logging.getLogger(f"ray.{module}").setLevel(logging.WARNING)
        before = {name: os.environ.pop(name) for name in ADDRESSES if name in os.environ}
        try:
            return JobSubmissionClient(self.address)
        finally:
            os.environ.update(before)

    def submit(
        self, entrypoint: str, folder: Path, metadata: dict[str, str], stop_wait_s: int, submission_id: str | None
    ) -> str:
        """Uploads `folder` as the job's working directory and starts `entrypoint` in it; returns the job's id.

        The driver asks for no resources: without any, Ray runs it on the head node. Raises ConfigError for an id that
        is taken.
        """
        environment = {"working_dir": str(folder), "env_vars": {STOP_WAIT: str(stop_wait_s)}}
        whole = {**metadata, STOP_WAIT_KEY: str(stop_wait_s)}
        with self._errors(submission_id):
            return self._client.submit_job(
                entrypoint=entrypoint, submission_id=submission_id, runtime_env=environment, metadata=whole
            )

    def state(self, job: str) -> JobState:
        """The current state of a job. Raises ConfigError for one that the cluster does not know."""
        with self._errors(job):
            info = self._client.get_job_info(job)
        return JobState(
            str(getattr(info.status, "value", info.status)),
            info.driver_exit_code,
            str(info.message or ""),
            dict(info.metadata or {}),
        )

    def log(self, job: str) -> str:
        """The output of a job so far, safe to show."""
        with self._errors(job):
            return shown(self._client.get_job_logs(job))

    def follow(self, job: str, echo: Echo) -> JobState:
        """Prints the job's output until it has ended, and reconnects if the connection is lost. Raises JobError if the
        cluster stays away; a KeyboardInterrupt stops following, not the job."""
        self.state(job)
        num_seen = 0
        heard = time.monotonic()

        async def tail() -> None:
            nonlocal num_seen, heard
            position = 0  # each connection begins at the log's first character
            async for text in self._client.tail_job_logs(job):
                fresh = text[max(0, num_seen - position) :]
                position += len(text)
                num_seen, heard = max(num_seen, position), time.monotonic()
                echo(shown(fresh))

        while True:
            trouble: Exception | None = None
            try:
                asyncio.run(tail())
                state = self.state(job)
                heard = time.monotonic()
                if state.has_ended:
                    return state
            except Exception as error:  # whatever HTTP, websocket and server raise; what lasts is raised below
                trouble = error
            if trouble is not None and time.monotonic() - heard > LOST_S:
                raise JobError(
                    f"lost contact with {self.address} for {LOST_S:.0f} s ({one_line(str(trouble))}); the job may go "
                    f"on. Follow it again: bohdi logs {job} --follow --address {self.address}"
                ) from trouble
            time.sleep(POLL_S)

    def stop(self, job: str) -> JobState:
        """Asks a job to stop and waits for its end. Raises JobError if it does not end."""
        before = self.state(job)
        if before.has_ended:
            return before
        with self._errors(job):
            self._client.stop_job(job)
        wait_s = float(before.metadata.get(STOP_WAIT_KEY, 0)) + SERVER_WAITS_S
        deadline = time.monotonic() + wait_s
        while not (state := self.state(job)).has_ended:
            if time.monotonic() > deadline:
                said = f"{job} was asked to stop {wait_s:.0f} s ago and is {state.status}"
                raise JobError(f"{said}; see bohdi logs {job} --address {self.address}")
            time.sleep(POLL_S)
        return state

    @contextlib.contextmanager
    def _errors(self, job: str | None = None) -> Iterator[None]:
        """Turns exceptions of Ray's client into errors with a remedy."""
        try:
            yield
        except BohdiError:
            raise
        except Exception as error:
            raise _told(error, self.address, job) from None


def shown(text: str) -> str:
    """A log's text without colours and anything that could harm a terminal."""
    return printable(_COLOURS.sub("", text))


def _told(error: Exception, address: str, job: str | None) -> BohdiError:
    text = str(error)
    if type(error).__name__ == "AuthenticationError":
        return token_error(text)
    if "status code 404" in text and job is not None:
        remedy = "See its dashboard, or `ray job list`; after a restart a cluster knows no earlier jobs: name the run."
        return ConfigError("ID", job, f"{address} knows no such job", remedy)
    if "already exists" in text and job is not None:
        return ConfigError("--submission-id", job, "the cluster has had a job of this name", "Choose another one.")
    if isinstance(error, OSError):  # ConnectionError, and all of the HTTP library's
        remedy = "Check the address and that the cluster is up; or forward its port: ssh -L 8265:localhost:8265 HEAD."
        return ConfigError("--address", address, f"cannot be reached ({one_line(text)})", remedy)
    if isinstance(error, ImportError):
        return JobError(f"Ray's job client is not complete here ({one_line(text)}): pip install 'ray[default]'")
    return JobError(f"{address} did not do what it was asked: {one_line(text, 500)}")
