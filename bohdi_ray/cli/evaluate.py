"""`bohdi evaluate`: scores of models and of a run's weights versions on lm-eval's tasks, side by side."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bohdi_ray.cli.errors import errors_as_text, require_extra
from bohdi_ray.cli.jobs import job_options, submit_command
from bohdi_ray.config.addresses import is_written_as_path
from bohdi_ray.languages.terminal_text import message

if TYPE_CHECKING:
    from bohdi_ray.evaluation.request import EvaluationRequest

LINE_EVERY_S = 30.0  # of progress where nobody watches a terminal

EPILOG = (
    "Suites: bohdi-paper, commonsense, bbh-mmlu. A folder holds tasks as YAML files with their data as JSON Lines. "
    "Answers are kept: the same command again asks engines only for what is missing."
)


def evaluation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments that `bohdi evaluate` and `bohdi submit evaluate` share."""
    parts = (
        click.argument("subjects", nargs=-1, required=True, metavar="RUN|MODEL..."),
        click.option("--tasks", required=True, help="Tasks of lm-eval, suites and folders, separated by commas."),
        click.option("--limit", type=click.IntRange(min=1), help="Questions of each task. Default: all."),
        click.option("--num-fewshot", type=click.IntRange(min=0), help="Examples before each. Default: the task's."),
        click.option("--chat", is_flag=True, help="Apply the model's chat template; examples become turns."),
        click.option("--system", help="System turn; needs --chat."),
        click.option("--allow-code", is_flag=True, help="Run tasks that execute code which the model wrote."),
        click.option("--replicas", type=click.IntRange(min=1), default=1, show_default=True, help="Engines each."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of every model's section."
        ),
        click.option("--metric", "metrics", multiple=True, metavar="TASK=METRIC[,FILTER]", help="For interference."),
        click.option("--against", metavar="SUBJECT", help="Compare interference with this subject's."),
        click.option("--out", help="Folder of the results. Default: evaluations/TIME in the first RUN, else here."),
        click.option("--full", is_flag=True, help="Show every single task of groups."),
    )
    for part in reversed(parts):
        command = part(command)
    return command


@click.command(epilog=EPILOG)
@evaluation_options
@click.option("--address", help="Ray cluster to run on. Default: $RAY_ADDRESS, else Ray on this machine.")
@errors_as_text
def evaluate(address: str | None, **options: Any) -> None:
    """Score models on benchmark tasks with engines of their own, and compare them question by question.

    A RUN stands for the weights it began with and its newest ones; RUN@3 and RUN@best name one version. MODEL is a
    folder, cache:NAME or a hub id. The first one is what the others are compared with.
    """
    require_extra("bohdi evaluate", "eval", "lm_eval")
    from bohdi_ray.evaluation.program import evaluate as run_evaluation

    request = evaluation_request(options, address)
    with _shown() as show:
        done = run_evaluation(request, lambda text: click.echo(message(text), err=True), show)
    click.echo(done.text)
    click.echo(f"written to {message(done.folder)}", err=True)


def evaluation_request(options: dict[str, Any], address: str | None) -> EvaluationRequest:
    """What the options say. Raises UsageError."""
    from bohdi_ray.evaluation.request import EvaluationRequest

    if options["system"] is not None and not options["chat"]:
        raise click.UsageError("--system needs --chat")
    metrics = dict(pair.partition("=")[::2] for pair in options["metrics"])
    if not all(metrics.values()):
        raise click.UsageError("--metric takes TASK=METRIC")
    return EvaluationRequest(
        names=options["subjects"],
        tasks=tuple(word.strip() for word in options["tasks"].split(",") if word.strip()),
        settings=options["settings"],
        limit=options["limit"],
        num_fewshot=options["num_fewshot"],
        chat=options["chat"],
        system=options["system"],
        allow_code=options["allow_code"],
        replicas=options["replicas"],
        address=address,
        out=options["out"],
        metrics=metrics,
        against=options["against"],
        full=options["full"],
    )


def submit_or_evaluate(submit: click.Command) -> click.Command:
    """`bohdi submit`, and `bohdi submit evaluate` with the arguments of `bohdi evaluate`."""
    return _SubmitCommand(
        submit.name, callback=submit.callback, params=submit.params, help=submit.help, epilog=submit.epilog
    )


class _SubmitCommand(click.Command):
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if args[:1] == ["evaluate"]:
            return submit_evaluation.make_context(f"{info_name} evaluate", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(name="submit evaluate", epilog=EPILOG)
@evaluation_options
@job_options
@errors_as_text
def submit_evaluation(
    address: str | None, submission_id: str | None, no_wait: bool, installed: bool, **options: Any
) -> None:
    """Run `bohdi evaluate` as a job on a cluster, and follow it.

    Uploaded are the code of bohdi_ray and the folders of tasks. Runs and models are read on the cluster, and results
    are written there; its head node needs the extra `eval`.
    """
    request = evaluation_request(options, address)
    with tempfile.TemporaryDirectory() as folder:
        words = []
        for i, word in enumerate(request.tasks):
            if is_written_as_path(word) and Path(word).expanduser().is_dir():
                shutil.copytree(Path(word).expanduser(), Path(folder) / f"tasks-{i}")
                words.append(f"./tasks-{i}")
            else:
                words.append(word)
        del options["tasks"]
        command = ["evaluate", *_as_words(options), "--tasks", ",".join(words), "--", *options["subjects"]]
        submit_command(command, Path(folder), address, submission_id, no_wait, installed)


def _as_words(options: dict[str, Any]) -> list[str]:
    """The options of `bohdi evaluate` as a shell would give them."""
    words: list[str] = []
    names = {"settings": "set", "metrics": "metric"}
    for name, value in options.items():
        flag = f"--{names.get(name, name).replace('_', '-')}"
        if name == "subjects" or value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        else:
            words += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(one))]
    return words


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    """Shows how many requests are answered: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task: dict[str, Any] = {}

            def bar(subject: str, done: int, total: int) -> None:
                if subject not in task:
                    task[subject] = bars.add_task(subject, total=total)
                bars.update(task[subject], completed=done, total=total)

            yield bar
        return
    told = 0.0

    def line(subject: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if done == total or now - told > LINE_EVERY_S:
            told = now
            click.echo(f"{message(subject)}: {done} of {total} requests answered", err=True)

    yield line
