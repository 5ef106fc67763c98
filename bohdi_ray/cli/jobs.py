"""Commands for a fusion as a job on a cluster: `bohdi submit | logs | stop`. They need ray[default] and no GPU library.

Exit codes: those of the job; 130 if it was stopped, or if following it ended by Ctrl-C, which does not stop it.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bohdi_ray import __version__
from bohdi_ray.cli.errors import STOPPED as STOPPED_CODE
from bohdi_ray.cli.errors import errors_as_text
from bohdi_ray.languages.terminal_text import message

if TYPE_CHECKING:
    from bohdi_ray.submit.job_server import JobServer, JobState

# Replaced by the shell that Ray starts it in, so that signals and exit codes are the program's own.
PROGRAM = "exec python -m bohdi_ray.cli"
LONGEST_DRAIN_S = 600.0  # of a run whose configuration only the cluster has
TAIL_LINES = 5

address_option = click.option("--address", help="Dashboard of the cluster: http://HEAD:8265. Default: $RAY_ADDRESS.")


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that submits a job."""
    parts = (
        address_option,
        click.option("--submission-id", help="Name of the job. Default: one that Ray makes."),
        click.option("--no-wait", is_flag=True, help="Return once it is submitted."),
        click.option("--installed", is_flag=True, help="Upload no code: the cluster's nodes have bohdi_ray installed."),
    )
    for part in reversed(parts):
        command = part(command)
    return command


def submit_command(
    command: list[str], folder: Path, address: str | None, submission_id: str | None, no_wait: bool, installed: bool
) -> None:
    """Submits another command than a fusion, with the files in `folder`, and follows it unless `no_wait`."""
    from bohdi_ray.config.job_paths import stop_wait_s
    from bohdi_ray.submit.job_server import VERSION_KEY, JobServer

    server = JobServer(address)
    _pack_code(folder, not installed)
    entrypoint = f"{PROGRAM} {shlex.join(command)}"
    job = server.submit(entrypoint, folder, {VERSION_KEY: __version__}, stop_wait_s(0), submission_id)
    click.echo(f"job {job} submitted to {server.address}")
    if no_wait:
        click.echo(_how_to_go_on(job, server.address))
    else:
        _follow(server, job)


@click.command(
    epilog="Authentication as for Ray: RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN, in the file that "
    "RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token."
)
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...")
@job_options
@click.option("--resume", metavar="RUN|ID", help="Go on with a run, named by its directory or by a job that ran it.")
@click.option("--reset-optimizer", is_flag=True, help="With --resume: train on from the weights, with a new optimizer.")
@errors_as_text
def submit(
    arguments: tuple[str, ...],
    address: str | None,
    submission_id: str | None,
    no_wait: bool,
    resume: str | None,
    reset_optimizer: bool,
    installed: bool,
) -> None:
    """Run a fusion as a job on a cluster, and follow it.

    Uploaded are the code of bohdi_ray, CONFIG, and the starting domains and prompts that it names; no weights, no
    environment, no secrets. A relative run_dir is below $BOHDI_HOME, or the home directory, on the head node.

    `bohdi submit evaluate RUN|MODEL... --tasks ...` runs `bohdi evaluate` in the same way.
    """
    from bohdi_ray.submit.job_server import RUN_KEY, VERSION_KEY, JobServer

    if reset_optimizer and resume is None:
        raise click.UsageError("--reset-optimizer needs --resume")
    with tempfile.TemporaryDirectory() as folder:
        if resume is None:
            if not arguments:
                raise click.UsageError("give CONFIG, or --resume RUN")
            command, run, stop_wait_s = _new(arguments, Path(folder), not installed)
            server = JobServer(address)
        else:
            server = JobServer(address)
            command, run, stop_wait_s = _again(server, resume, arguments, reset_optimizer)
            _pack_code(Path(folder), not installed)
        metadata = {RUN_KEY: run, VERSION_KEY: __version__}
        entrypoint = f"{PROGRAM} {shlex.join(command)}"
        job = server.submit(entrypoint, Path(folder), metadata, stop_wait_s, submission_id)
    click.echo(f"job {job} submitted to {server.address}; run directory: {message(run)}")
    if no_wait:
        click.echo(_how_to_go_on(job, server.address))
    else:
        _follow(server, job)


def _new(arguments: tuple[str, ...], folder: Path, with_package: bool) -> tuple[list[str], str, int]:
    """Packs a new run. Returns the command that starts it, its directory, and how long it may take to stop, in
    seconds."""
    from bohdi_ray.config.job_paths import stop_wait_s
    from bohdi_ray.submit.job_package import CONFIG_NAME, prepare

    shipment = prepare(Path(arguments[0]), arguments[1:], datetime.now())
    shipment.write(folder, with_package)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    own = ", ".join(sorted(shipment.files))
    code = f"{len(files) - len(shipment.files)} files of bohdi_ray, " if with_package else ""
    size = sum(path.stat().st_size for path in files) / 1e6
    click.echo(f"to upload: {code}{message(own)} ({size:.1f} MB)")
    for note in shipment.notes:
        click.echo(f"note: {message(note)}")
    return ["fuse", CONFIG_NAME], shipment.config.run_dir, stop_wait_s(shipment.config.deadlines.drain_s)


def _pack_code(folder: Path, with_package: bool) -> None:
    from bohdi_ray.submit.job_package import copy_package

    if with_package:
        copy_package(folder)
    else:
        (folder / "README").write_text("The working directory of a job of bohdi_ray.\n")  # Ray packs no empty folder


def _again(
    server: JobServer, resume: str, overrides: tuple[str, ...], reset_optimizer: bool
) -> tuple[list[str], str, int]:
    """For a run that is resumed: the command, its directory, and how long it may take to stop, in seconds."""
    from bohdi_ray.config.job_paths import stop_wait_s
    from bohdi_ray.errors import ConfigError, ConfigErrors
    from bohdi_ray.submit.job_server import RUN_KEY, STOP_WAIT_KEY
    from bohdi_ray.submit.literal_secrets import literal_secrets

    given = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    secret = [error for key, value in given.items() for error in literal_secrets(value, key)]
    if secret:
        raise ConfigErrors(secret)
    wait_s = stop_wait_s(LONGEST_DRAIN_S)
    if "/" in resume or resume.startswith("~"):
        run = resume
    else:
        state = server.state(resume)
        run = state.metadata.get(RUN_KEY, "")
        if not run:
            rule = "this job was not submitted by `bohdi submit`, so its run directory is not known"
            raise ConfigError("--resume", resume, rule, f"Name the run: `bohdi logs {resume}` shows it.")
        if not state.has_ended:
            rule = f"the job is {state.status.lower()}, and a run has one driver"
            remedy = f"Wait for its end, or stop it: bohdi stop {resume} --address {server.address}"
            raise ConfigError("--resume", resume, rule, remedy)
        wait_s = int(state.metadata.get(STOP_WAIT_KEY, wait_s))
    drain = given.get("deadlines.drain_s", "")
    if re.fullmatch(r"\d+(\.\d+)?", drain):
        wait_s = stop_wait_s(float(drain))
    options = ["--reset-optimizer"] if reset_optimizer else []
    return ["resume", *options, "--", run, *overrides], run, wait_s


def _follow(server: JobServer, job: str) -> None:
    """Shows the job's log until its end, then exits with its code."""
    try:
        state = server.follow(job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(f"\nno longer following; the job continues\n{_how_to_go_on(job, server.address)}", err=True)
        sys.exit(STOPPED_CODE)
    _tell_end(job, state, server.address)
    sys.exit(state.program_exit_code)


def _how_to_go_on(job: str, address: str) -> str:
    commands = {"follow it": f"bohdi logs {job} --follow", "stop it": f"bohdi stop {job}"}
    return "\n".join(f"{what}:  {command} --address {address}" for what, command in commands.items())


def _tell_end(job: str, state: JobState, address: str) -> None:
    from bohdi_ray.submit.job_server import RUN_KEY, STOPPED, SUCCEEDED

    if state.status == SUCCEEDED:
        click.echo(f"job {job} has succeeded")
        return
    how = "was stopped" if state.status == STOPPED else f"has failed with exit code {state.program_exit_code}"
    if state.exit_code is None and state.status != STOPPED and state.message:
        how += f": {message(state.message)}"  # the driver did not start, so no log says why
    click.echo(f"job {job} {how}", err=True)
    if state.metadata.get(RUN_KEY):
        click.echo(f"continue with its run:  bohdi submit --resume {job} --address {address}", err=True)


@click.command()
@click.argument("job", metavar="ID")
@address_option
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended; exits with its code.")
@errors_as_text
def logs(job: str, address: str | None, follow: bool) -> None:
    """Show what a job has printed."""
    from bohdi_ray.submit.job_server import JobServer

    server = JobServer(address)
    if follow:
        _follow(server, job)
    click.echo(server.log(job), nl=False)


@click.command()
@click.argument("job", metavar="ID")
@address_option
@errors_as_text
def stop(job: str, address: str | None) -> None:
    """Stop a job as Ctrl-C stops a run: steps that complete within deadlines.drain_s are committed.

    Waits until the job has ended. Exit code 0 once it has ended, whatever its result.
    """
    from bohdi_ray.submit.job_server import STOPPED, JobServer

    server = JobServer(address)
    before = server.state(job)
    if before.has_ended:
        click.echo(f"job {job} had ended already: {before.status.lower()}")
        return
    click.echo(f"asking job {job} to stop; work in progress may finish within deadlines.drain_s")
    state = server.stop(job)
    for line in server.log(job).splitlines()[-TAIL_LINES:]:
        click.echo(f"  {line}")
    if state.status == STOPPED:
        _tell_end(job, state, server.address)
    else:
        click.echo(f"job {job} ended before it could be stopped: {state.status.lower()}")
