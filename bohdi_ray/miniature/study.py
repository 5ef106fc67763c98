"""Studies on the miniature: which choices are set against each other, and what came of them.

A study has arms, each some settings over those of the miniature's own fusion.yaml. Every arm is run on the same worlds
with the same loop seeds; the first one is what the others are compared with, paired by world and loop seed. Intervals
are Student's t at 95 % over these pairs, corrected for the number of other arms (Bonferroni), not for that of figures.
Pairs of one world share its models, so an interval says what holds for such worlds as these. jobs/bench/miniature.py
runs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.loading import load_config
from bohdi_ray.miniature.recipe import CONFIG
from bohdi_ray.simulation.report import table
from bohdi_ray.simulation.statistics import interval

# In `tiny` 180 harvests for 224 questions: there are not enough for every question once, so it matters where they go.
SCARCE = ["meditation.steps=1", "stop.rounds=6"]
REPLAY = ["training.replay.share=0.25", "training.replay.questions_per_row=0.5"]
PAPER_BANDIT = ["bandit.policy=dynabranches", "bandit.introspection=true", "bandit.window=20", "bandit.threshold=0.2"]


Result = dict[str, Any]  # of one fusion: world, seed, arm, its settings, and the figures of MEANS and TOTALS

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
                f"training.replay.questions_per_row={asked}",
            ]
            # About as many questions whatever the share.
            for share, sure, asked in ((0.25, 0.9, 0.5), (0.25, 0.7, 0.5), (0.5, 0.9, 0.17))
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

MEANS = ("before", "after", "gained", "lost", "untaught", "samples", "found", "invented", "misplaced", "right_rows")
TOTALS = ("right_there", "chosen", "contested", "chosen_contested")


def config_of(out: Path, settings: Sequence[str], seed: int, run_dir: Path) -> FusionConfig:
    """The miniature's configuration with an arm's settings. `sources:N` keeps the first N sources. A run that loses a
    source fails: it would be another arm."""
    path, overrides = out / CONFIG, list(SCARCE)
    for setting in settings:
        if setting.startswith("sources:"):
            path = with_sources(path, int(setting.removeprefix("sources:")))
        else:
            overrides.append(setting)
    config = load_config(path, [*overrides, f"seed={seed}", f"run_dir={run_dir}", "observe.console=quiet"])
    harvest = config.harvest.model_copy(update={"min_sources": len(config.sources)})
    return config.model_copy(update={"harvest": harvest})


def with_sources(path: Path, number: int) -> Path:
    """The configuration with the first `number` sources, beside the whole one."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    fewer = path.with_name(f"fusion-{number}.yaml")
    fewer.write_text(yaml.safe_dump(settings | {"sources": settings["sources"][:number]}), encoding="utf-8")
    return fewer


def missing(
    done: Sequence[Result], arms: Mapping[str, Sequence[str]], worlds: Sequence[int], seeds: Sequence[int]
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """By world what is still to be run, as (loop seed, arm): all arms of one seed before the next. `arms` with their
    settings: what was run with others is run again."""
    known = {(one["world"], one["seed"], one["arm"]) for one in done if one["settings"] == arms.get(one["arm"])}
    for world in worlds:
        open_ = [(seed, arm) for seed in seeds for arm in arms if (world, seed, arm) not in known]
        if open_:
            yield world, open_


def figures_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What a study keeps of a fusion's report (report.py): MEANS and TOTALS."""
    total, tree, judge = plain["overall"], plain["tree"], plain["judge"]
    return {
        **{key: total[key] for key in ("before", "after", "gained", "lost")},
        "untaught": plain["untaught"]["after"],
        "samples": plain["num_samples"],
        "found": sum(level["found"] for level in tree["levels"]),
        "invented": len(tree["invented"]),
        "misplaced": len(tree["misplaced"]),
        **{key: judge[key] for key in ("right_rows", *TOTALS)},
    }


def plain_interval(values: list[float], num_comparisons: int = 1) -> dict[str, float | None]:
    """Without bounds, None in JSON, where there is one value only."""
    return {k: v if math.isfinite(v) else None for k, v in interval(values, num_comparisons).items()}


def summary(results: Sequence[Result], arms: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`pairs`: the worlds and loop seeds that all arms were run on, and no others count; `arms`: by arm its means and
    totals over them, and its differences to the first arm. An arm without any run is left out of both."""
    by_arm = {
        arm: {(r["world"], r["seed"]): r for r in results if r["arm"] == arm and r["settings"] == settings}
        for arm, settings in arms.items()
    }
    by_arm = {arm: runs for arm, runs in by_arm.items() if runs}
    pairs = sorted(set.intersection(*(set(runs) for runs in by_arm.values()))) if by_arm else []
    plain: dict[str, Any] = {}
    if not pairs:
        return {"pairs": [], "arms": {}}
    first = next(iter(by_arm))
    for arm, every in by_arm.items():
        runs = [every[pair] for pair in pairs]
        mean = {key: sum(one[key] for one in runs) / len(runs) for key in MEANS}
        totals = {key: sum(one[key] for one in runs) for key in TOTALS}
        plain[arm] = {**mean, **totals, "after_interval": plain_interval([one["after"] for one in runs])}
        if arm != first:
            for key in ("after", "gained", "lost"):
                differences = [every[pair][key] - by_arm[first][pair][key] for pair in pairs]
                plain[arm][f"{key}_less_first"] = plain_interval(differences, len(by_arm) - 1)
    return {"pairs": pairs, "arms": plain}


def show(plain: dict[str, Any]) -> str:
    """What `summary` returned, as a table for a person."""

    def difference(one: dict[str, Any], key: str, digits: int) -> str:
        if (d := one.get(f"{key}_less_first")) is None:
            return ""
        between = "" if d["low"] is None else f" [{d['low']:+.{digits}f}, {d['high']:+.{digits}f}]"
        return f"{d['mean']:+.{digits}f}{between}"

    rows = [
        [
            arm,
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
            difference(one, "after", 3),
            f"{one['gained']:.1f}",
            f"{one['lost']:.1f}",
            difference(one, "lost", 1),
            f"{one['untaught']:.2f}",
            f"{one['samples']:.0f}",
            f"{one['right_rows'] / max(1, one['samples']):.2f}",
            f"{one['chosen_contested']} of {one['contested']}",
            f"{one['found']:.1f} / {one['misplaced']:.1f} / {one['invented']:.1f}",
        ]
        for arm, one in plain["arms"].items()
    ]
    heading = ["arm", "before", "after", "less the first", "gained", "lost", "less the first", "untaught", "samples"]
    heading += ["right", "judge right", "domains: found, misplaced, invented"]
    return f"means over {len(plain['pairs'])} pairs of a world and a loop seed\n{table(heading, rows)}"
