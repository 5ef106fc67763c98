"""The command line: `bohdi fuse | resume | plan | tree | export | simulate | prepare-quickstart`, and those of
`jobs.py`, `status.py` and `miniature.py`.

Turns arguments into calls and errors into text with an exit code; decides nothing else. Everything heavy is imported
by the command that needs it, so `bohdi --help` and `bohdi plan` start no Ray and load no torch.

Exit codes: cli/errors.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from bohdi_ray import __version__
from bohdi_ray.cli.errors import REFUSED, errors_as_text, require_extra
from bohdi_ray.cli.evaluate import evaluate, submit_or_evaluate
from bohdi_ray.cli.jobs import logs, stop, submit
from bohdi_ray.cli.miniature import miniature
from bohdi_ray.cli.status import status
from bohdi_ray.languages.terminal_text import message

OVERRIDES_HELP = "CONFIG is a YAML file; each KEY=VALUE replaces one setting, for example stop.rounds=3."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bohdi")
def main() -> None:
    """Fuse several language models into a smaller one, without training data, on a Ray cluster.

    Exit codes: 0 done, 1 the run failed, 2 the input was refused, 130 stopped.
    """


@main.command(epilog=OVERRIDES_HELP)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--address", help="Ray cluster to run on. Default: $RAY_ADDRESS, else Ray on this machine.")
@click.option("--resume", is_flag=True, help="Go on with the run that run_dir holds.")
@click.option("--reset-optimizer", is_flag=True, help="With --resume: train on from the weights, with a new optimizer.")
@errors_as_text
def fuse(config: Path, overrides: tuple[str, ...], address: str | None, resume: bool, reset_optimizer: bool) -> None:
    """Run a fusion."""
    from bohdi_ray.config.loading import load_config

    if reset_optimizer and not resume:
        raise click.UsageError("--reset-optimizer needs --resume")
    _fuse(load_config(config, overrides), address, resume, reset_optimizer)


@main.command(
    epilog="Each KEY=VALUE replaces one setting: where, how long and how much to keep, for example stop.rounds=30."
)
@click.argument("run", type=str)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--address", help="Ray cluster to run on. Default: $RAY_ADDRESS, else Ray on this machine.")
@click.option("--reset-optimizer", is_flag=True, help="Train on from the weights, with a new optimizer.")
@errors_as_text
def resume(run: str, overrides: tuple[str, ...], address: str | None, reset_optimizer: bool) -> None:
    """Continue a run that was interrupted, or one that has ended and gets a later stop rule.

    Everything that was committed is kept: samples, tree, weights, optimizer. Steps that were in progress are harvested
    again, with the same tickets.
    """
    from bohdi_ray.config.job_paths import run_location
    from bohdi_ray.config.loading import load_config
    from bohdi_ray.run.run_dir import CONFIG, RunDir

    run_dir = RunDir.open(run_location(run))  # says so if there is none
    here = f"run_dir={json.dumps(run_dir.address())}"
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(run_dir.path(CONFIG))
        if not run_dir.is_local:
            stored = Path(folder) / CONFIG
            stored.write_bytes(run_dir.read_bytes(CONFIG))
        config = load_config(stored, [here, *overrides], of_run=True)
    _fuse(config, address, True, reset_optimizer)


def _fuse(config: Any, address: str | None, resume: bool, reset_optimizer: bool) -> None:
    # Ray counts processes and warns when there are more than cores. Here many wait rather than compute.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "PYTHON worker processes have been started")
    from bohdi_ray.config.job_paths import job_notices
    from bohdi_ray.config.run_naming import named_run
    from bohdi_ray.fusion import fuse as run_fusion

    with contextlib.nullcontext(config) if resume else named_run(config, datetime.now()) as named:
        for notice in job_notices(named):
            click.echo(message(notice), err=True)
        run_fusion(named, resume=resume, reset_optimizer=reset_optimizer, address=address)


@main.command(epilog=OVERRIDES_HELP)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--nodes", type=click.Path(path_type=Path), help="YAML list of nodes to place the run on.")
@click.option("--address", help="Running Ray cluster to place the run on; nothing is started there.")
@click.option("--online", is_flag=True, help="Ask the model hub about models that are hub ids; downloads no weights.")
@click.option("--full", is_flag=True, help="Print the whole resolved configuration first.")
@errors_as_text
def plan(
    config: Path, overrides: tuple[str, ...], nodes: Path | None, address: str | None, online: bool, full: bool
) -> None:
    """Show what a run would do, where every part would be placed, what is missing, and what could not be checked.

    Starts nothing and, without --online, uses no network. Without --nodes and --address it checks placement on this
    machine; if this machine has no GPU and the configuration asks for GPUs, placement is not checked.
    """
    from bohdi_ray.config.loading import dump_config, load_config
    from bohdi_ray.preflight import preflight
    from bohdi_ray.preflight.hub import asked_hub
    from bohdi_ray.preflight.plan import plan_text

    if nodes is not None and address is not None:
        raise click.UsageError("give --nodes or --address, not both")
    loaded = load_config(config, overrides)
    where = _nodes(loaded, nodes, address)
    with asked_hub() if online else contextlib.nullcontext() as hub:
        findings = preflight(loaded, where, hub=hub)
    if full:
        click.echo(dump_config(loaded))
    click.echo(plan_text(loaded, findings, where))
    if findings.problems:
        sys.exit(REFUSED)


def _nodes(config: Any, nodes: Path | None, address: str | None) -> Any:
    """The nodes that the run would be placed on; None if they are not known here."""
    from bohdi_ray.errors import BohdiError
    from bohdi_ray.placement.cluster_token import knock_and_show_token
    from bohdi_ray.placement.machines import described_nodes, nodes_of_ray, read_nodes, unreachable
    from bohdi_ray.preflight import local_node
    from bohdi_ray.preflight.plan import asks_for_gpus

    if nodes is not None:
        return read_nodes(nodes)
    if address is not None:
        import ray

        try:
            knock_and_show_token(address)
            with ray.init(address=address, log_to_driver=False, configure_logging=False):
                return nodes_of_ray(ray.nodes())
        except BohdiError:
            raise
        except Exception as error:  # Ray raises all kinds, a bare Exception when it takes too long
            raise unreachable("--address", address, error) from None
    if config.nodes:
        return described_nodes(config.nodes, "nodes")
    machine = local_node(config)
    return None if machine.num_gpus == 0 and asks_for_gpus(config) else [machine]


@main.command()
@click.argument("run", type=str)
@click.option("--depth", type=click.IntRange(min=1), help="Levels to show. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="Nested JSON with posteriors, windows and ballots.")
@errors_as_text
def tree(run: str, depth: int | None, as_json: bool) -> None:
    """Show a run's knowledge tree, with posteriors and counts, as read from its journal."""
    from bohdi_ray.observe.tree_view import tree_json, tree_text

    click.echo(tree_json(run) if as_json else tree_text(run, depth))


@main.command()
@click.argument("run", type=str)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "shape", type=click.Choice(["sft", "preference"]), default="sft", show_default=True)
@click.option("--min-margin", type=float, default=0.0, show_default=True, help="Least lead of the better answer.")
@errors_as_text
def export(run: str, out: Path, shape: str, min_margin: float) -> None:
    """Write a run's samples as a data set (Parquet, JSONL, dataset card) that datasets and TRL read."""
    from bohdi_ray.examples.export import ExportOptions
    from bohdi_ray.examples.export import export as write_export
    from bohdi_ray.run.run_dir import RunDir

    written = write_export(RunDir.open(run), out, ExportOptions(format=shape, min_margin=min_margin))  # type: ignore[arg-type]
    for split, num_rows in written.rows.items():
        click.echo(f"{split}: {num_rows} rows")
    for reason, number in sorted(written.left_out.items()):
        click.echo(f"left out, {reason}: {number}")
    if written.damaged is not None:
        click.echo(f"note: {message(written.damaged)}", err=True)
    click.echo(f"written to {out}")


@main.command()
@click.argument("worlds", nargs=-1, metavar="[WORLD]...")
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds to average over. Default: 10; with --full 30.")
@click.option("--policies", help="Comma-separated. Default: all.")
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Rounds of each fusion.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Worker processes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for JSON, Parquet of all runs, and figures.")
@click.option("--full", is_flag=True, help="All worlds, tuning on seeds of its own, 30 seeds: about a quarter hour.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another setting for every world.")
@click.option("--judge-bias", is_flag=True, help="Compare not policies but judges, by their favour for the first slot.")
@errors_as_text
def simulate(
    worlds: tuple[str, ...],
    seeds: int | None,
    policies: str | None,
    rounds: int,
    processes: int,
    out: Path | None,
    full: bool,
    judge_bias: bool,
    overrides: tuple[str, ...],
) -> None:
    """Compare bandit policies on simulated fusions: the real tree code, scripted models, no Ray.

    WORLD is the name of a shipped world (balanced, weak_branch, many_small_gaps, bad_source, abrupt_shift,
    gradual_shift, unlearnable) or a YAML file of your own. Default: balanced weak_branch.
    """
    require_extra("bohdi simulate", "studies", "matplotlib", "scipy")
    from bohdi_ray.studies.simulation.program import Request, simulate_and_tell

    click.echo(simulate_and_tell(Request(worlds, seeds, policies, rounds, processes, out, full, judge_bias, overrides)))


@main.command("prepare-quickstart")
@errors_as_text
def prepare_quickstart() -> None:
    """Make the quickstart's two models in the cache folder ($BOHDI_CACHE, or ~/.cache/bohdi_ray)."""
    from bohdi_ray.studies.quickstart import prepare_models

    models = prepare_models(progress=lambda line: click.echo(line))
    click.echo(f"source: {models.source_dir}")
    click.echo(f"target: {models.target_dir}")


for command in (evaluate, submit_or_evaluate(submit), logs, stop, status, miniature):
    main.add_command(command)
