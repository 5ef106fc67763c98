"""What choices are worth where fusion can be checked: real engines and real training on miniatures, arm against arm.

The studies are in bohdi_ray/studies/miniature/study.py. Only version 0 and the last are measured; engines of a world
are lent from fusion to fusion (lent_engines.py). What was run is in FOLDER/SIZE.jsonl, with --kind K in
FOLDER/SIZE-K.jsonl, and is not run again, so a study may be broken off, and may be given more seeds; an arm of several
studies is run once.

Usage: python jobs/bench/miniature.py STUDY ... [--worlds 0,1,2] [--seeds 0,1,2,3,4] [--arms NAME,...] [--size SIZE]
[--kind KIND] [--folder FOLDER]
Last line: one JSON object.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from lent_engines import Lender  # noqa: E402
from smoke import parse  # noqa: E402

from bohdi_ray.errors import Interrupted  # noqa: E402
from bohdi_ray.fusion import fuse  # noqa: E402
from bohdi_ray.run.run_dir import weights_dir  # noqa: E402
from bohdi_ray.studies.miniature.build import BUILD, build  # noqa: E402
from bohdi_ray.studies.miniature.program import answers_of, measure  # noqa: E402
from bohdi_ray.studies.miniature.report import Answers  # noqa: E402
from bohdi_ray.studies.miniature.sizes import KINDS, SIZES, Size  # noqa: E402
from bohdi_ray.studies.miniature.study import (  # noqa: E402
    CONTRASTS,
    STUDIES,
    config_of,
    contrasts,
    figures_of,
    missing,
    show,
    show_contrasts,
    summary,
)
from bohdi_ray.studies.miniature.truth import read_world  # noqa: E402
from bohdi_ray.studies.miniature.world import World  # noqa: E402


class Worlds:
    """Miniatures below a folder, built when they are asked for."""

    def __init__(self, folder: Path, name: str, size: Size):
        self._folder, self._name, self._size = folder, name, size

    def folder(self, seed: int) -> Path:
        out = self._folder / f"{self._name}-{seed}"
        if not (out / BUILD).is_file():
            shutil.rmtree(out, ignore_errors=True)
            build(out, self._size, seed, say)
        return out


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_arm(
    out: Path, world: World, known: dict[str, Answers], lender: Lender, settings: list[str], seed: int
) -> dict[str, Any]:
    """One fusion, measured; its run directory goes. `known` keeps what the models answer that every arm begins with."""
    run_dir = out / f"study-run-{os.getpid()}"
    shutil.rmtree(run_dir, ignore_errors=True)
    config = config_of(out, settings, seed, run_dir)
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):  # its own tables
        fuse(config, parts=lender.parts())
    for model in (*config.sources, config.target):
        if model.model not in known:
            known[model.model] = answers_of(model.model, world)
    base = str(run_dir / weights_dir(0))
    figures = figures_of(measure(config, world, {**known, base: known[config.target.model]}, between=False))
    shutil.rmtree(run_dir)
    return {**figures, "seconds": time.monotonic() - started}


def results_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def run_all(wanted: list[list[str]], options: argparse.Namespace, worlds: Worlds, path: Path) -> None:
    """Runs what is missing of every arm that has one of these settings."""
    for number, left in missing(results_of(path), wanted, options.worlds, options.seeds):
        out = worlds.folder(number)
        world = read_world(out)
        known: dict[str, Answers] = {}
        lender = Lender(out / "published")
        try:
            for seed, settings in left:
                try:
                    figures = run_arm(out, world, known, lender, settings, seed)
                except Interrupted:
                    raise
                except Exception as error:  # told of, and tried again by the next call
                    say(f"world {number}, seed {seed}, {name_of(settings)}: {error}")
                    lender.close()  # whatever was wrong, the next arm gets new engines
                    continue
                keep(path, {"world": number, "seed": seed, "settings": settings, **figures})
        finally:
            lender.close()


def name_of(settings: list[str]) -> str:
    """The first arm of any study with these settings."""
    return next(f"{study} / {arm}" for study, arms in STUDIES.items() for arm, its in arms.items() if its == settings)


def keep(path: Path, result: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(result) + "\n")
    say(
        f"world {result['world']}, seed {result['seed']}, {name_of(result['settings'])}: {result['before']:.3f} -> "
        f"{result['after']:.3f}, lost {result['lost']}, {result['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--worlds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", type=lambda text: text.split(","), help="Default: all. The first is compared with.")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--kind", choices=list(KINDS), default="plain")
    parser.add_argument("--folder", type=Path, default=Path("runs/miniature-studies"))
    smallest = {
        "studies": ["policies"],
        "worlds": [0],
        "seeds": [0],
        "arms": ["uniform + rehearsal", "default + rehearsal"],
    }
    options = parse(parser, **smallest)
    if options.smoke:
        options.folder = Path(tempfile.mkdtemp())
    if not options.studies or set(options.studies) - STUDIES.keys():
        parser.error(f"name studies of {', '.join(STUDIES)}")
    arms_of = {study: dict(STUDIES[study]) for study in options.studies}
    if options.arms:
        if len(arms_of) > 1:
            parser.error("--arms: give one study")
        study, every = next(iter(arms_of.items()))
        if unknown := set(options.arms) - every.keys():
            parser.error(f"--arms: {', '.join(sorted(unknown))} is not of {', '.join(every)}")
        arms_of = {study: {arm: every[arm] for arm in options.arms}}
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    name = options.size if options.kind == "plain" else f"{options.size}-{options.kind}"
    worlds = Worlds(options.folder, name, KINDS[options.kind](SIZES[options.size]))
    path = options.folder / f"{name}.jsonl"
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        run_all([settings for arms in arms_of.values() for settings in arms.values()], options, worlds, path)
    finally:
        ray.shutdown()
    chosen = [one for one in results_of(path) if one["world"] in options.worlds and one["seed"] in options.seeds]
    found = {study: summary(chosen, arms) for study, arms in arms_of.items()}
    for study, arms in arms_of.items():
        print(f"\n{study}: {show(found[study])}")
        if asked := contrasts(chosen, arms, CONTRASTS.get(study, {})):
            found[study]["contrasts"] = asked
            print(f"\n{show_contrasts(asked)}")
    print(json.dumps({"size": options.size, "kind": options.kind, "studies": found}))


if __name__ == "__main__":
    main()
