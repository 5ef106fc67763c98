"""`bohdi miniature build | fuse | measure`: builds a world with ground truth and tiny models for it, fuses them, and
measures the result."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bohdi_ray.cli.errors import errors_as_text, require_extra


@click.group()
def miniature() -> None:
    """Build tiny models that know parts of an invented world, fuse them for real, and measure what the target gains."""


@miniature.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of world and models.")
@click.option("--size", type=click.Choice(["tiny", "small"]), default="tiny", show_default=True)
@click.option(
    "--kind",
    type=click.Choice(["plain", "uneven", "inventive"]),
    default="plain",
    show_default=True,
    help="plain: the target knows a quarter of everything; uneven: most of it, but for one main domain; inventive: "
    "sources propose domains that there are not, too.",
)
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Models taught at a time.")
@errors_as_text
def build(out: Path, seed: int, size: str, kind: str, processes: int) -> None:
    """Make the world, its models and the configuration of their fusion in the folder OUT.

    Models are trained in parallel, each on one thread; the same seed gives the same models on one machine.
    """
    from bohdi_ray.studies.miniature.build import build as build_miniature
    from bohdi_ray.studies.miniature.sizes import KINDS, SIZES

    chosen = KINDS[kind](SIZES[size])
    build_miniature(out, chosen, seed, lambda line: click.echo(line, err=True), processes)
    click.echo(f"next: bohdi miniature fuse {out}")


@miniature.command(epilog="Each KEY=VALUE replaces a setting of OUT/fusion.yaml, for example judge.kind=likelihood.")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--address", help="Ray cluster to run on. Default: $RAY_ADDRESS, else Ray on this machine.")
@errors_as_text
def fuse(out: Path, overrides: tuple[str, ...], address: str | None) -> None:
    """Fuse the models in OUT as `bohdi fuse OUT/fusion.yaml` does, and report what the target knows before and
    after."""
    # As for `bohdi fuse`: many processes wait here rather than compute.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "PYTHON worker processes have been started")
    require_extra("bohdi miniature", "studies", "matplotlib")
    from bohdi_ray.studies.miniature.program import fuse_and_tell

    click.echo(fuse_and_tell(out, overrides, address, lambda line: click.echo(line, err=True)))


@miniature.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("run")
@errors_as_text
def measure(out: Path, run: str) -> None:
    """Report what the target knows before and after RUN, a finished fusion of the models in OUT, without fusing again.

    Use it for a run that was finished with `bohdi resume` or `bohdi fuse OUT/fusion.yaml`.
    """
    require_extra("bohdi miniature", "studies", "matplotlib")
    from bohdi_ray.studies.miniature.program import measure_and_tell

    click.echo(measure_and_tell(out, run, lambda line: click.echo(line, err=True)))
