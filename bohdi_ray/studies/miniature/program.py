"""`bohdi miniature fuse` and `measure`: runs the real fusion of a miniature and measures what its target knows before
and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import is_address
from bohdi_ray.config.loading import load_config
from bohdi_ray.config.run_naming import named_run
from bohdi_ray.errors import ConfigError
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.observe.tree_view import replayed
from bohdi_ray.records import DomainPath
from bohdi_ray.run.run_dir import RunDir, weights_dir
from bohdi_ray.studies.miniature.answering import greedy_answers, log_probabilities
from bohdi_ray.studies.miniature.build import BUILD, Say
from bohdi_ray.studies.miniature.figures import draw_report
from bohdi_ray.studies.miniature.judging import Contest, Rows, contests
from bohdi_ray.studies.miniature.recipe import CONFIG, MODELS
from bohdi_ray.studies.miniature.report import Answers, report, text_of
from bohdi_ray.studies.miniature.truth import read_world
from bohdi_ray.studies.miniature.world import World, questions

REPORT, FIGURE = "miniature.json", "miniature"


def fuse_and_tell(out: Path, overrides: Sequence[str], address: str | None, say: Say) -> str:
    """Fuses what `build` left in `out` and returns the tables; report and figures go into the run directory.

    Raises ConfigError if `out` holds no complete miniature, and the errors of a fusion.
    """
    world = _whole_world(out)
    asked = load_config(out / CONFIG, overrides)
    _check_folder("run_dir", asked.run_dir)

    from bohdi_ray.fusion import fuse  # here, so that what is refused needs no Ray

    with named_run(asked, datetime.now()) as config:
        fuse(config, address=address)
        return _tell(config, world, say)


def measure_and_tell(out: Path, run_dir: str, say: Say) -> str:
    """Measures a run of the miniature in `out` that has ended: by `bohdi resume`, for example. Returns the tables;
    report and figures go into the run directory.

    Raises ConfigError if `out` holds no complete miniature or the run does not belong to it, and RunDirError if there
    is no run.
    """
    world = _whole_world(out)
    _check_folder("RUN", run_dir)
    config = RunDir.open(run_dir).config().model_copy(update={"run_dir": run_dir})  # it may have been moved
    models = (out / MODELS).resolve()
    if any(not Path(member.model).resolve().is_relative_to(models) for member in (*config.sources, config.target)):
        raise ConfigError("RUN", run_dir, f"its models are not those in {models}", "Give the OUT that was fused.")
    return _tell(config, world, say)


def _tell(config: FusionConfig, world: World, say: Say) -> str:
    say("measuring what the target and its sources know")
    plain, run = measure(config, world), Path(config.run_dir)
    (run / REPORT).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    draw_report(plain, run / FIGURE)
    return f"{text_of(plain)}\n\nwritten to {run}: {REPORT}, {FIGURE}.png, {FIGURE}.svg"


def _whole_world(out: Path) -> World:
    if not (out / BUILD).is_file():
        raise ConfigError("OUT", str(out), "holds no complete miniature", "Build it: bohdi miniature build OUT.")
    return read_world(out)


def _check_folder(field: str, run_dir: str) -> None:
    if is_address(run_dir):
        raise ConfigError(field, run_dir, "is an address", "Give a folder: the trained weights are read from it.")


def answers_of(folder: str, world: World) -> Answers:
    """What the model in `folder` answers to every question of the world."""
    asked = [question for _, question in questions(world)]
    return dict(zip(asked, greedy_answers(folder, asked), strict=True))


def measure(
    config: FusionConfig, world: World, known: Mapping[str, Answers] | None = None, between: bool = True
) -> dict[str, Any]:
    """The report of a run, from its directory: for every stored version of the target (or, without `between`, only the
    first and the last) and for the sources. `known`: answers, by folder, of models that need not be asked.
    """
    run = RunDir.open(config.run_dir)

    def answers(folder: str) -> Answers:
        return known[folder] if known and folder in known else answers_of(folder, world)

    trained = run.committed_rounds()
    newest = trained[-1] + 1 if trained else 0  # a run may end before a round is trained
    kept = [version for version in range(newest + 1) if run.exists(weights_dir(version))]
    kept = kept if between else [kept[0], kept[-1]]
    versions = {version: answers(run.path(weights_dir(version))) for version in kept}
    sources = {source.name: answers(source.model) for source in config.sources}
    manager, _ = replayed(config.run_dir)
    samples = list(SampleStore(run).iter_samples())
    store = RehearsalStore(run)
    asked = [row for round in trained if store.has(round) for row in store.read(round)]
    sure = [row for row in asked if row.rejected is None]
    return report(world, versions, sources, samples, _domain_paths(manager.describe()), sure)


def scored_contests(out: Path, run_dir: str) -> list[tuple[Contest, Rows]]:
    """The contests (judging.py) of a run of the miniature in `out`, each with the score that every model of the run
    gives to its answers; the target scores with the weights with which it answered."""
    run = RunDir.open(run_dir)
    config = run.config()
    found = contests(read_world(out), list(SampleStore(run).iter_samples()), config.target.name)
    rows: list[dict[str, dict[str, float]]] = [{} for _ in found]

    def score(scorer: str, model: str, which: Sequence[int]) -> None:
        pairs = [(found[i].question, text) for i in which for text in found[i].texts.values()]
        values = iter(log_probabilities(model, pairs))
        for i in which:
            rows[i][scorer] = {author: next(values) for author in found[i].texts}

    for source in config.sources:
        score(source.name, source.model, range(len(found)))
    for version in sorted({contest.target_version for contest in found}):
        which = [i for i, contest in enumerate(found) if contest.target_version == version]
        score(config.target.name, run.path(weights_dir(version)), which)
    return list(zip(found, rows, strict=True))


def _domain_paths(tree: dict[str, Any], above: DomainPath = ()) -> Iterator[DomainPath]:
    """All domains below the root of a tree in the format of `TreeManager.describe`."""
    for child in tree["children"]:
        path = (*above, child["name"])
        yield path
        yield from _domain_paths(child, path)
