"""`bohdi simulate` and `jobs/bench/allocation.py`: turn the arguments into tables, files and figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.studies.simulation.figures import draw_curves, draw_differences, draw_judge_bias
from bohdi_ray.studies.simulation.judge_bias import bias_table, study_judge_bias
from bohdi_ray.studies.simulation.policies import ENTRANTS
from bohdi_ray.studies.simulation.report import Study, as_json, progress_lines, run_study, tables
from bohdi_ray.studies.simulation.world_spec import SHAPES, load_world

DEFAULT_WORLDS = ("balanced", "weak_branch")
BIAS_WORLD = "weak_branch"
DEFAULT_SEEDS, FULL_SEEDS = 10, 30


@dataclass(frozen=True)
class Request:
    """The command's arguments."""

    worlds: tuple[str, ...] = ()
    seeds: int | None = None
    policies: str | None = None
    rounds: int = 20
    processes: int = 2
    out: Path | None = None
    full: bool = False
    judge_bias: bool = False
    overrides: tuple[str, ...] = ()  # of every world's settings

    def study(self) -> Study:
        """The study that the arguments describe. Raises ConfigErrors."""
        names = self.worlds or (SHAPES if self.full else DEFAULT_WORLDS)
        return Study(
            worlds=dict(load_world(name, self.overrides) for name in names),
            policies=_policies(self.policies),
            seeds=tuple(range(self.seeds or (FULL_SEEDS if self.full else DEFAULT_SEEDS))),
            num_rounds=self.rounds,
            num_processes=self.processes,
            tuning=self.full,
        )


def _policies(names: str | None) -> tuple[str, ...]:
    if names is None:
        return tuple(ENTRANTS)
    wanted = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in wanted if name not in ENTRANTS]
    if unknown or not wanted:
        remedy = f"Known: {', '.join(ENTRANTS)}."
        raise ConfigErrors(
            [ConfigError("--policies", name, "this policy does not exist", remedy) for name in unknown or [""]]
        )
    return wanted


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def simulate(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(report, runs), with progress on stderr; writes files if requested."""
    report, runs = run_study(request.study(), _say)
    if request.out is not None:
        write(report, runs, request.out)
        _say(f"written to {request.out}")
    return report, runs


def simulate_and_tell(request: Request) -> str:
    """The text that the command prints."""
    return _judge_bias(request) if request.judge_bias else tables(simulate(request)[0])


def _judge_bias(request: Request) -> str:
    names = request.worlds or (BIAS_WORLD,)
    if len(names) > 1:
        remedy = "Give one, or none for weak_branch."
        raise ConfigErrors([ConfigError("WORLD", list(names), "--judge-bias takes one world", remedy)])
    (name, spec), seeds = load_world(names[0], request.overrides), tuple(range(request.seeds or FULL_SEEDS))
    report, runs = study_judge_bias(name, spec, seeds, request.rounds, request.processes, progress_lines(_say))
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
        (request.out / "judge_bias.json").write_text(as_json(report) + "\n", encoding="utf-8")
        (request.out / "judge_bias.md").write_text(bias_table(report, markdown=True) + "\n", encoding="utf-8")
        draw_judge_bias(report, runs, request.out / "judge_bias")
        _say(f"written to {request.out}")
    return bias_table(report)


def write(report: dict[str, Any], runs: list[dict[str, Any]], folder: Path) -> None:
    """report.json, tables.md, runs.parquet (one row per fusion) and the figures as PNG and SVG."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(as_json(report) + "\n", encoding="utf-8")
    (folder / "tables.md").write_text(tables(report, markdown=True) + "\n", encoding="utf-8")
    flat = [{**run, "settings": as_json(run["settings"])} for run in runs]
    parquet.write_table(pa.Table.from_pylist(flat), folder / "runs.parquet")
    draw_curves(runs, folder / "allocation")
    if report["verdict"]["challengers"]:
        draw_differences(report, folder / "differences")
