"""What choices are worth where fusion can be checked: real engines and real training on miniatures, arm against arm.

A study has arms, each some settings over those of the miniature's own fusion.yaml, the first the one the others are
compared with. Every arm is run on the same worlds (`bohdi miniature build`, each with models of its own) with the same
loop seeds. Only version 0 and the last are measured; engines of a world are lent from fusion to fusion
(lent_engines.py). What was run lies in FOLDER/STUDY.jsonl and is not run again, so a study may be broken off, and may
be given more seeds.

Differences are paired by world and loop seed; intervals are Student's t at 95 % over these pairs, corrected for the
number of arms (Bonferroni). Pairs of one world share its models, so they say what holds for such worlds as these.

Usage: python jobs/bench/miniature.py STUDY [--worlds 0,1,2] [--seeds 0,1,2,3,4] [--arms NAME,...] [--folder FOLDER]
Last line: one JSON object.
"""

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
import yaml  # noqa: E402
from lent_engines import Lender  # noqa: E402

from bohdi_ray.config import FusionConfig  # noqa: E402
from bohdi_ray.config.loading import load_config  # noqa: E402
from bohdi_ray.errors import Interrupted  # noqa: E402
from bohdi_ray.fusion import fuse  # noqa: E402
from bohdi_ray.miniature.answering import greedy_answers  # noqa: E402
from bohdi_ray.miniature.build import BUILD, build  # noqa: E402
from bohdi_ray.miniature.program import domain_paths  # noqa: E402
from bohdi_ray.miniature.recipe import CONFIG  # noqa: E402
from bohdi_ray.miniature.report import report  # noqa: E402
from bohdi_ray.miniature.sizes import SIZES  # noqa: E402
from bohdi_ray.miniature.truth import read_world  # noqa: E402
from bohdi_ray.miniature.world import World, questions  # noqa: E402
from bohdi_ray.simulation.report import table  # noqa: E402
from bohdi_ray.simulation.statistics import interval  # noqa: E402
from bohdi_ray.storage.run_dir import RunDir, weights_dir  # noqa: E402
from bohdi_ray.storage.samples import SampleStore  # noqa: E402
from bohdi_ray.tree_view import replayed  # noqa: E402

# 180 harvests for 224 questions: where to ask next matters, and no leaf is used up early.
SCARCE = ["meditation.steps=1", "stop.rounds=6"]
REPLAY = ["training.replay.share=0.25"]
PAPER_BANDIT = ["bandit.policy=dynabranches", "bandit.introspection=true", "bandit.window=20", "bandit.threshold=0.2"]


STUDIES: dict[str, dict[str, list[str]]] = {
    "policies": {
        f"{policy}{suffix}": settings + more
        for suffix, more in (("", []), (" + replay", REPLAY))
        for policy, settings in (
            ("paper", PAPER_BANDIT),
            ("uniform", ["bandit.policy=uniform"]),
            ("default", []),
        )
    },
    "replay": {
        "none": [],
        **{
            f"share {share} sure {sure}": [
                f"training.replay.share={share}",
                f"training.replay.min_probability={sure}",
            ]
            for share, sure in ((0.25, 0.9), (0.25, 0.7), (0.5, 0.9))
        },
    },
    "judges": {policy: [f"judge.policy={policy}"] for policy in ("consensus", "leader", "others", "likelihood")},
    "support": {f"min_support {n}": [f"sprout.min_support={n}"] for n in (0, 1, 2)},
    "bandit": {
        "paper": PAPER_BANDIT,
        "without DynaBranches": ["bandit.policy=uniform"],
        "without IR": [*PAPER_BANDIT[:1], "bandit.introspection=false"],
        "window 10": [*PAPER_BANDIT, "bandit.window=10"],
        "window 40": [*PAPER_BANDIT, "bandit.window=40"],
        "threshold 0.1": [*PAPER_BANDIT, "bandit.threshold=0.1"],
        "threshold 0.4": [*PAPER_BANDIT, "bandit.threshold=0.4"],
    },
    "sources": {"3 sources": [], "2 sources": ["sources:2"], "1 source": ["sources:1", "judge.policy=leader"]},
    "staleness": {f"staleness {k}": [f"harvest.max_staleness={k}"] for k in (1, 0, 2)},
}


class Worlds:
    """Miniatures below a folder, built when they are asked for."""

    def __init__(self, folder: Path, size: str):
        self._folder, self._size = folder, size

    def folder(self, seed: int) -> Path:
        out = self._folder / f"{self._size}-{seed}"
        if not (out / BUILD).is_file():
            shutil.rmtree(out, ignore_errors=True)
            build(out, SIZES[self._size], seed, say)
        return out


class Knowledge:
    """What models answer to all questions of a world, asked once for each folder."""

    def __init__(self, world: World):
        self._asked = [question for _, question in questions(world)]
        self._known: dict[str, dict[str, str]] = {}

    def of(self, folder: str) -> dict[str, str]:
        if folder not in self._known:
            self._known[folder] = dict(zip(self._asked, greedy_answers(folder, self._asked), strict=True))
        return self._known[folder]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def config_of(out: Path, settings: list[str], seed: int, run_dir: Path) -> FusionConfig:
    """The miniature's configuration with an arm's settings. `sources:N` keeps the first N sources."""
    path, overrides = out / CONFIG, list(SCARCE)
    for setting in settings:
        if setting.startswith("sources:"):
            path = with_sources(path, int(setting.removeprefix("sources:")))
        else:
            overrides.append(setting)
    return load_config(path, [*overrides, f"seed={seed}", f"run_dir={run_dir}", "observe.console=quiet"])


def with_sources(path: Path, number: int) -> Path:
    """The configuration with the first `number` sources, beside the whole one."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    fewer = path.with_name(f"fusion-{number}.yaml")
    fewer.write_text(yaml.safe_dump(settings | {"sources": settings["sources"][:number]}), encoding="utf-8")
    return fewer


def run_arm(
    out: Path, world: World, known: Knowledge, lender: Lender, settings: list[str], seed: int
) -> dict[str, Any]:
    """One fusion, measured; its run directory goes."""
    run_dir = out / "study-run"
    shutil.rmtree(run_dir, ignore_errors=True)
    config = config_of(out, settings, seed, run_dir)
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):  # its own tables
        fuse(config, parts=lender.parts())
    run = RunDir.open(config.run_dir)
    last = run.committed_rounds()[-1] + 1
    versions = {0: known.of(config.target.model), last: Knowledge(world).of(run.path(weights_dir(last)))}
    manager, _ = replayed(config.run_dir)
    plain = report(
        world,
        versions,
        {source.name: known.of(source.model) for source in config.sources},
        list(SampleStore(run).iter_samples()),
        domain_paths(manager.describe()),
    )
    shutil.rmtree(run_dir)
    tree = plain["tree"]
    return {
        **{key: plain["overall"][key] for key in ("before", "after", "gain", "gained", "lost")},
        "untaught": plain["untaught"]["after"],
        "samples": plain["num_samples"],
        "found": sum(level["found"] for level in tree["levels"]),
        "invented": len(tree["invented"]),
        "misplaced": len(tree["misplaced"]),
        **{
            key: plain["judge"][key] for key in ("right_there", "chosen", "contested", "chosen_contested", "right_rows")
        },
        "seconds": time.monotonic() - started,
    }


def results_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def missing(
    done: list[dict[str, Any]], arms: list[str], worlds: list[int], seeds: list[int]
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """By world what is to be run: seed by seed, all arms of one before the next."""
    known = {(one["world"], one["seed"], one["arm"]) for one in done}
    for world in worlds:
        open_ = [(seed, arm) for seed in seeds for arm in arms if (world, seed, arm) not in known]
        if open_:
            yield world, open_


def run_study(study: str, options: argparse.Namespace, path: Path) -> None:
    worlds = Worlds(options.folder, options.size)
    for number, left in missing(results_of(path), options.arms, options.worlds, options.seeds):
        out = worlds.folder(number)
        world = read_world(out)
        known = Knowledge(world)
        lender = Lender(options.folder / "published")
        for seed, arm in left:
            try:
                figures = run_arm(out, world, known, lender, STUDIES[study][arm], seed)
            except Interrupted:
                raise
            except Exception as error:  # an arm that fails is told of, and tried again by the next call
                say(f"world {number}, seed {seed}, {arm}: {error}")
                continue
            with path.open("a") as file:
                file.write(json.dumps({"world": number, "seed": seed, "arm": arm, **figures}) + "\n")
            say(
                f"world {number}, seed {seed}, {arm}: {figures['before']:.3f} -> {figures['after']:.3f}, "
                f"lost {figures['lost']}, {figures['seconds']:.0f} s"
            )
        lender.close()


def plain_interval(values: list[float], num_comparisons: int = 1) -> dict[str, float | None]:
    """Without bounds, None in JSON, where there is one value only."""
    return {k: v if math.isfinite(v) else None for k, v in interval(values, num_comparisons).items()}


def summary(results: list[dict[str, Any]], arms: list[str]) -> dict[str, Any]:
    """By arm: means over its runs, and the paired difference in accuracy to the first arm."""
    by_arm = {arm: {(one["world"], one["seed"]): one for one in results if one["arm"] == arm} for arm in arms}
    plain: dict[str, Any] = {}
    for arm, runs in by_arm.items():
        if not runs:
            continue
        pairs = sorted(runs.keys() & by_arm[arms[0]].keys())
        mean = {
            key: sum(one[key] for one in runs.values()) / len(runs)
            for key in (
                "before",
                "after",
                "gained",
                "lost",
                "untaught",
                "samples",
                "found",
                "invented",
                "misplaced",
                "right_rows",
            )
        }
        totals = {
            key: sum(one[key] for one in runs.values())
            for key in ("right_there", "chosen", "contested", "chosen_contested")
        }
        plain[arm] = {
            "runs": len(runs),
            **mean,
            **totals,
            "after_interval": plain_interval([r["after"] for r in runs.values()]),
        }
        if arm != arms[0] and pairs:
            for key in ("after", "gained", "lost"):
                differences = [runs[pair][key] - by_arm[arms[0]][pair][key] for pair in pairs]
                plain[arm][f"{key}_less_first"] = {"pairs": len(pairs), **plain_interval(differences, len(arms) - 1)}
    return plain


def show(plain: dict[str, Any]) -> str:
    def difference(one: dict[str, Any], key: str, digits: int) -> str:
        if (d := one.get(f"{key}_less_first")) is None:
            return ""
        between = "" if d["low"] is None else f" [{d['low']:+.{digits}f}, {d['high']:+.{digits}f}]"
        return f"{d['mean']:+.{digits}f}{between}"

    rows = [
        [
            arm,
            str(one["runs"]),
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
            difference(one, "after", 3),
            f"{one['gained']:.1f}",
            f"{one['lost']:.1f}",
            difference(one, "lost", 1),
            f"{one['untaught']:.2f}",
            f"{one['samples']:.0f}",
            f"{one['right_rows'] / one['samples']:.2f}",
            f"{one['chosen_contested']} of {one['contested']}",
            f"{one['found']:.1f} / {one['misplaced']:.1f} / {one['invented']:.1f}",
        ]
        for arm, one in plain.items()
    ]
    heading = [
        "arm",
        "runs",
        "before",
        "after",
        "less the first",
        "gained",
        "lost",
        "less the first",
        "untaught",
        "samples",
        "right",
        "judge right",
        "domains: found, misplaced, invented",
    ]
    return table(heading, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--worlds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", type=lambda text: text.split(","), help="Default: all. The first is compared with.")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--folder", type=Path, default=Path("runs/miniature-studies"))
    options = parser.parse_args()
    options.arms = options.arms or list(STUDIES[options.study])
    if unknown := set(options.arms) - STUDIES[options.study].keys():
        parser.error(f"--arms: {', '.join(sorted(unknown))} is not of {', '.join(STUDIES[options.study])}")
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.study}.jsonl"
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        run_study(options.study, options, path)
    finally:
        ray.shutdown()
    plain = summary(results_of(path), options.arms)
    print(show(plain))
    print(json.dumps({"study": options.study, "worlds": options.worlds, "seeds": options.seeds, "arms": plain}))


if __name__ == "__main__":
    main()
