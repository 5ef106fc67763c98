"""What choices are worth where fusion can be checked: real engines and real training on miniatures, arm against arm.

The studies stand in bohdi_ray/miniature/study.py. Only version 0 and the last are measured; engines of a world are lent
from fusion to fusion (lent_engines.py). What was run lies in FOLDER/STUDY-SIZE.jsonl, with --kind K in
FOLDER/STUDY-SIZE-K.jsonl, and is not run again, so a study may be broken off, and may be given more seeds.

Usage: python jobs/bench/miniature.py STUDY [--worlds 0,1,2] [--seeds 0,1,2,3,4] [--arms NAME,...] [--size SIZE]
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
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from lent_engines import Lender  # noqa: E402

from bohdi_ray.errors import Interrupted  # noqa: E402
from bohdi_ray.fusion import fuse  # noqa: E402
from bohdi_ray.miniature.build import BUILD, build  # noqa: E402
from bohdi_ray.miniature.program import answers_of, measure  # noqa: E402
from bohdi_ray.miniature.report import Answers  # noqa: E402
from bohdi_ray.miniature.sizes import KINDS, SIZES, Size  # noqa: E402
from bohdi_ray.miniature.study import STUDIES, config_of, figures_of, missing, show, summary  # noqa: E402
from bohdi_ray.miniature.truth import read_world  # noqa: E402
from bohdi_ray.miniature.world import World  # noqa: E402
from bohdi_ray.storage.run_dir import weights_dir  # noqa: E402


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


def run_study(arms: dict[str, list[str]], options: argparse.Namespace, worlds: Worlds, path: Path) -> None:
    for number, left in missing(results_of(path), arms, options.worlds, options.seeds):
        out = worlds.folder(number)
        world = read_world(out)
        known: dict[str, Answers] = {}
        lender = Lender(out / "published")
        try:
            for seed, arm in left:
                try:
                    figures = run_arm(out, world, known, lender, arms[arm], seed)
                except Interrupted:
                    raise
                except Exception as error:  # told of, and tried again by the next call
                    say(f"world {number}, seed {seed}, {arm}: {error}")
                    lender.close()  # whatever was wrong, the next arm gets new engines
                    continue
                keep(path, {"world": number, "seed": seed, "arm": arm, "settings": arms[arm], **figures})
        finally:
            lender.close()


def keep(path: Path, result: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(result) + "\n")
    say(
        f"world {result['world']}, seed {result['seed']}, {result['arm']}: {result['before']:.3f} -> "
        f"{result['after']:.3f}, lost {result['lost']}, {result['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--worlds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", type=lambda text: text.split(","), help="Default: all. The first is compared with.")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--kind", choices=list(KINDS), default="plain")
    parser.add_argument("--folder", type=Path, default=Path("runs/miniature-studies"))
    options = parser.parse_args()
    study = STUDIES[options.study]
    options.arms = options.arms or list(study)
    if unknown := set(options.arms) - study.keys():
        parser.error(f"--arms: {', '.join(sorted(unknown))} is not of {', '.join(study)}")
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    arms = {arm: study[arm] for arm in options.arms}
    name = options.size if options.kind == "plain" else f"{options.size}-{options.kind}"
    worlds = Worlds(options.folder, name, KINDS[options.kind](SIZES[options.size]))
    path = options.folder / f"{options.study}-{name}.jsonl"
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        run_study(arms, options, worlds, path)
    finally:
        ray.shutdown()
    plain = summary(results_of(path), arms)
    print(show(plain))
    print(json.dumps({"study": options.study, "size": options.size, "kind": options.kind, **plain}))


if __name__ == "__main__":
    main()
