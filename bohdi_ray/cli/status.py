"""`bohdi status`: whether a run is healthy, what limits it, and what to do. Exit code 0: healthy or finished; 1:
not."""

from __future__ import annotations

import sys
from typing import Any

import click

from bohdi_ray.cli.errors import RUN_FAILED, errors_as_text
from bohdi_ray.errors import RunDirError
from bohdi_ray.languages.terminal_text import one_line


@click.command()
@click.argument("run", type=str, required=False)
@click.option("--address", help="Ray cluster to look at too: runs at work there, whatever their files say.")
@errors_as_text
def status(run: str | None, address: str | None) -> None:
    """Say in one line whether a run is healthy, what limits it and what to do about it; then show a few figures.

    RUN is judged by its files alone. With --address the active runs on that cluster are queried too. Without RUN, every
    active run whose folder is visible from this machine is judged. Exit code 0: healthy or finished; 1: not.
    """
    if run is None and address is None:
        raise click.UsageError("give RUN, --address, or both")
    live = [] if address is None else _live(address)
    locations = [run] if run is not None else [one.location for one in live if one.location is not None]
    healthy = bool(locations) or bool(live)
    for location in locations:
        healthy &= _tell(location, must_be_seen=run is not None)
    for one in live:
        click.echo(one_line(f"on the cluster: {one.line()}", 400))
        healthy &= one.answers
    if address is not None and not live:
        click.echo("on the cluster: no run is active there")
    if not healthy:
        sys.exit(RUN_FAILED)


def _tell(location: str, must_be_seen: bool) -> bool:
    """Shows a run's status and returns whether it is healthy. A run that this machine cannot see is skipped, unless it
    was named."""
    from bohdi_ray.observe.status import status_of

    try:
        found = status_of(location)
    except RunDirError:
        if must_be_seen:
            raise
        click.echo(one_line(f"{location} cannot be read from this machine", 400))
        return True
    click.echo(found.text())
    return found.health.healthy


def _live(address: str) -> list[Any]:
    """The active runs on a cluster. Raises ConfigError if the cluster cannot be joined."""
    import ray

    from bohdi_ray.actors.live_runs import live_runs
    from bohdi_ray.placement.machines import knock, unreachable

    if ray.is_initialized():
        return live_runs()
    try:
        knock(address)
        with ray.init(address=address, log_to_driver=False, configure_logging=False):
            return live_runs()
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise unreachable("--address", address, error) from None
