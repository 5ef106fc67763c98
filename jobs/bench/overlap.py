"""What harvesting and training at the same time is worth: the same fusion with max_staleness 0 and 1, step_lag 0 and 1.

Two parts. `fixed`: engines whose every answer takes a fixed time and a trainer whose every step does, so that neither
takes compute from the other, as on separate cards; this is where the orchestration itself shows. `real` (with
--real): the quickstart with real models, where both sides share this machine's cores and no gain is to be expected
from the compute.

With R rounds, harvest time H and training time T a round, a perfectly overlapped run takes R * max(H, T) + min(H, T):
the first harvest and the last training have nothing beside them. So

    ratio_to_longer_side = (wall - min(H, T)) / (R * max(H, T))        1 is perfect
    ratio_to_sequential  = wall with max_staleness 1 / wall with max_staleness 0

where wall runs from the start of the first harvest to the last commit, and H and T are the means measured in the same
run. Those runs are without `training.rehearsal`, whose questions are asked between two harvests; a fifth one has the
default's, and tells how much longer a harvest and its rehearsal take than the harvest alone:

    replay_cost = (H + rehearsal time a round) / H

Usage: python jobs/bench/overlap.py [--real]      last line: one JSON object
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = str(ROOT / "tests")
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from scripted_parts import scripted_config, scripted_parts  # noqa: E402
from smoke import parse  # noqa: E402

from bohdi_ray.config import TrainingConfig  # noqa: E402
from bohdi_ray.config.loading import load_config  # noqa: E402
from bohdi_ray.fusion import fuse  # noqa: E402
from bohdi_ray.observe.summary import Summary  # noqa: E402


def figures(summary: Summary) -> dict[str, float]:
    """Times of one run, s."""
    rounds = len(summary.rounds)
    harvest = sum(r.seconds["harvest"] for r in summary.rounds) / rounds
    training = sum(r.seconds["training"] for r in summary.rounds) / rounds
    wall = summary.seconds["loop"]
    longer, shorter = max(harvest, training), min(harvest, training)
    return {
        "wall_s": wall,
        "harvest_s": harvest,
        "rehearsal_s": summary.seconds.get("rehearsal", 0.0) / rounds,
        "training_s": training,
        "overlap_s": summary.seconds["overlap"],
        "ratio_to_longer_side": (wall - shorter) / (rounds * longer),
    }


def fixed(
    folder: str, staleness: int, step_lag: int, options: argparse.Namespace, share: float = 0.0
) -> dict[str, float]:
    config = scripted_config(
        f"{folder}/fixed-{staleness}-{step_lag}-{share}",
        meditation={"steps": 3, "walks_per_step": 10},
        enlightenment={"steps": 3, "rows_per_step": 16},
        training={"global_batch_size": 8, "rehearsal": {"share": share}},
        harvest={"max_staleness": staleness, "step_lag": step_lag, "max_tasks_in_flight": 4, "tickets_per_task": 8},
        stop={"rounds": options.rounds},
        observe={"console": "quiet"},
    )
    return figures(fuse(config, parts=scripted_parts(answer_s=options.answer_s, step_s=options.step_s)))


def real(folder: str, staleness: int, step_lag: int) -> dict[str, float]:
    overrides = [
        f"run_dir={folder}/real-{staleness}-{step_lag}",
        f"harvest.max_staleness={staleness}",
        f"harvest.step_lag={step_lag}",
        "observe.console=quiet",
    ]
    return figures(fuse(load_config(ROOT / "jobs/configs/quickstart.yaml", overrides)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="also run the quickstart, about 5 minutes a run, twice")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--answer-s", type=float, default=1.0, help="time of every request to an engine, s")
    parser.add_argument("--step-s", type=float, default=1.6, help="time of every training step, s; six steps a round")
    options = parse(parser, rounds=2, answer_s=0.05, step_s=0.05)
    result: dict[str, object] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
        runs = {f"staleness {k}, step_lag {lag}": fixed(folder, k, lag, options) for k in (0, 1) for lag in (0, 1)}
        with_rehearsal = fixed(folder, 1, 1, options, TrainingConfig().rehearsal.share)
        ray.shutdown()
        overlapped, sequential = runs["staleness 1, step_lag 1"], runs["staleness 0, step_lag 1"]
        without_lag = runs["staleness 1, step_lag 0"]
        result |= {
            "ratio_to_longer_side": overlapped["ratio_to_longer_side"],
            "ratio_to_sequential": overlapped["wall_s"] / sequential["wall_s"],
            "step_lag_gain": overlapped["harvest_s"] / without_lag["harvest_s"],
            "replay_cost": 1 + with_rehearsal["rehearsal_s"] / with_rehearsal["harvest_s"],
            "fixed": runs | {"staleness 1, step_lag 1, rehearsal": with_rehearsal},
        }
        if options.real:
            with_overlap, without = real(folder, 1, 1), real(folder, 0, 1)
            result["real"] = {"staleness 1": with_overlap, "staleness 0": without}
            result["real_ratio_to_sequential"] = with_overlap["wall_s"] / without["wall_s"]
            result["real_ratio_to_longer_side"] = with_overlap["ratio_to_longer_side"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
