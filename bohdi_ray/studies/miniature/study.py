"""Studies on the miniature: the choices that are compared, and their results.

A study has arms: each is a set of overrides of the miniature's own fusion.yaml. Every arm is run on the same worlds
with the same loop seeds; the others are compared with the first, paired by world and loop seed. Intervals are Student's
t at 95 % over these pairs, corrected for the number of other arms (Bonferroni), not for the number of figures. Pairs of
one world share its models, so an interval holds for worlds like these. jobs/bench/miniature.py runs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.loading import load_config
from bohdi_ray.studies.miniature.recipe import CONFIG
from bohdi_ray.studies.simulation.report import table
from bohdi_ray.studies.simulation.statistics import interval

# In `tiny` 180 harvests for 224 questions: there are not enough for every question once, so it matters where they go.
SCARCE = ["meditation.steps=1", "stop.rounds=6"]
# Settings of arms are written out even where they are the defaults, so that what was run stays what it says.
NO_REPLAY = ["training.rehearsal.share=0"]
REPLAY = ["training.rehearsal.share=0.25", "training.rehearsal.questions_per_row=0.5"]
UNIFORM, THOMPSON = ["bandit.kind=uniform"], ["bandit.kind=dynamic_thompson"]
PAPER_BANDIT = ["bandit.kind=dynabranches", "bandit.introspection=true", "bandit.window=20", "bandit.threshold=0.2"]
USUAL = [*THOMPSON, *REPLAY]  # what studies about something else vary


Result = dict[str, Any]  # of one fusion: world, seed, settings of its arm, and the figures of MEANS and TOTALS

STUDIES: dict[str, dict[str, list[str]]] = {
    "policies": {
        f"{policy}{suffix}": settings + more
        for suffix, more in ((" + rehearsal", REPLAY), ("", NO_REPLAY))
        for policy, settings in (("paper", PAPER_BANDIT), ("uniform", UNIFORM), ("default", THOMPSON))
    },
    "rehearsal": {
        "none": [*THOMPSON, *NO_REPLAY],
        "share 0.25 sure 0.9": USUAL,
        **{
            f"share {share} sure {sure}": [
                *THOMPSON,
                f"training.rehearsal.share={share}",
                f"training.rehearsal.min_probability={sure}",
                f"training.rehearsal.questions_per_row={asked}",
            ]
            # As many questions whatever the share; of a quarter version 0 is not sure of enough to fill it.
            for share, sure, asked in ((0.25, 0.7, 0.5), (0.05, 0.9, 3.2))
        },
    },
    # `consensus` is what a miniature's own configuration has.
    "judges": {
        "consensus": USUAL,
        **{policy: [*USUAL, f"judge.kind={policy}"] for policy in ("leader", "others", "likelihood")},
    },
    "support": {f"min_support {n}": [*USUAL, f"sprout.min_support={n}"] for n in (0, 1, 2)},
    "bandit": {
        "paper": [*PAPER_BANDIT, *REPLAY],
        "without DynaBranches": [*UNIFORM, *REPLAY],
        "without IR": ["bandit.kind=dynabranches", "bandit.introspection=false", *REPLAY],
        # In 180 harvests no domain gets far beyond the paper's window of 20, so its test has nothing to compare with.
        "window 10": [*PAPER_BANDIT, *REPLAY, "bandit.window=10"],
        **{
            f"window 5, threshold {threshold}": [
                *PAPER_BANDIT,
                *REPLAY,
                "bandit.window=5",
                f"bandit.threshold={threshold}",
            ]
            for threshold in (0.05, 0.2, 0.4)
        },
    },
    "sources": {
        "3 sources": USUAL,
        "2 sources": [*USUAL, "sources:2"],
        # The only source judges by a label, which it never learned: as good as a draw.
        "1 source": [*USUAL, "sources:1", "judge.kind=leader"],
    },
    "staleness": {"staleness 1": USUAL, **{f"staleness {k}": [*USUAL, f"harvest.max_staleness={k}"] for k in (0, 2)}},
}

# What is asked of a study beside its arms: by question the weight of each arm. Each counts the pairs of its own arms.
CONTRASTS: dict[str, dict[str, dict[str, float]]] = {
    "policies": {
        "rehearsal less none, mean of three policies": {
            f"{policy}{suffix}": sign / 3
            for suffix, sign in ((" + rehearsal", 1), ("", -1))
            for policy in ("paper", "uniform", "default")
        },
        **{
            f"{one} less {other}{suffix or ' without rehearsal'}": {f"{one}{suffix}": 1, f"{other}{suffix}": -1}
            for suffix in (" + rehearsal", "")
            for one, other in (("default", "paper"), ("uniform", "paper"), ("uniform", "default"))
        },
    },
}

MEANS = ("before", "after", "gained", "lost", "untaught", "samples", "found", "invented", "misplaced", "right_rows")
TOTALS = ("right_there", "chosen", "contested", "chosen_contested")


def config_of(out: Path, settings: Sequence[str], seed: int, run_dir: Path) -> FusionConfig:
    """The miniature's configuration with an arm's settings. `sources:N` keeps the first N sources. A run that loses a
    source fails, because it would no longer be the same arm."""
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
    """A configuration file with only the first `number` sources, next to the full one."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    fewer = path.with_name(f"fusion-{number}.yaml")
    fewer.write_text(yaml.safe_dump(settings | {"sources": settings["sources"][:number]}), encoding="utf-8")
    return fewer


def missing(
    done: Sequence[Result], wanted: Sequence[Sequence[str]], worlds: Sequence[int], seeds: Sequence[int]
) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """For each world, the runs that are still missing, as (loop seed, settings): all of one seed before the next.
    Settings that arms of several studies share are listed once."""
    known = {(one["world"], one["seed"], tuple(one["settings"])) for one in done}
    distinct = dict.fromkeys(map(tuple, wanted))
    for world in worlds:
        open_ = [(seed, list(one)) for seed in seeds for one in distinct if (world, seed, one) not in known]
        if open_:
            yield world, open_


def figures_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a study keeps from a fusion's report (report.py): MEANS and TOTALS."""
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
    """An interval. Its bounds are missing, None in JSON, if there is only one value."""
    return {k: v if math.isfinite(v) else None for k, v in interval(values, num_comparisons).items()}


def summary(results: Sequence[Result], arms: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`pairs`: the worlds and loop seeds on which all arms were run; no others count. `arms`: for each arm its means
    and totals over them, and its differences to the first arm. An arm without any run is left out of both."""
    by_arm = {arm: runs for arm, runs in _runs(results, arms).items() if runs}
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


def _runs(results: Sequence[Result], arms: Mapping[str, Sequence[str]]) -> dict[str, dict[tuple[int, int], Result]]:
    """For each arm its fusions, by world and loop seed."""
    return {
        arm: {(r["world"], r["seed"]): r for r in results if r["settings"] == settings}
        for arm, settings in arms.items()
    }


def contrasts(
    results: Sequence[Result], arms: Mapping[str, Sequence[str]], questions: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """For each question, the weighted sum of its arms over all pairs on which every one of them was run: the number of
    pairs, and intervals of `after`, `gained` and `lost`, corrected for the number of questions. A question without a
    pair is left out."""
    by_arm, found = _runs(results, arms), {}
    for question, weights in questions.items():
        if pairs := sorted(set.intersection(*(set(by_arm.get(arm, {})) for arm in weights))):
            found[question] = {
                "num_pairs": len(pairs),
                **{
                    key: plain_interval(
                        [sum(weight * by_arm[arm][pair][key] for arm, weight in weights.items()) for pair in pairs],
                        len(questions),
                    )
                    for key in ("after", "gained", "lost")
                },
            }
    return found


def show_contrasts(plain: Mapping[str, Mapping[str, Any]]) -> str:
    """The result of `contrasts` as a table for people."""
    rows = [
        [
            question,
            str(one["num_pairs"]),
            *(_with_bounds(one[key], digits) for key, digits in (("after", 3), ("gained", 1), ("lost", 1))),
        ]
        for question, one in plain.items()
    ]
    return table(["question", "pairs", "exact match", "gained", "lost"], rows)


def _with_bounds(d: Mapping[str, Any], digits: int) -> str:
    between = "" if d["low"] is None else f" [{d['low']:+.{digits}f}, {d['high']:+.{digits}f}]"
    return f"{d['mean']:+.{digits}f}{between}"


def show(plain: dict[str, Any]) -> str:
    """The result of `summary` as a table for people."""

    def difference(one: dict[str, Any], key: str, digits: int) -> str:
        found = one.get(f"{key}_less_first")
        return "" if found is None else _with_bounds(found, digits)

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
