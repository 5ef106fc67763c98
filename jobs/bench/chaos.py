"""A storm over a run: processes are killed at random times, and the run must end as if nothing had happened.

First the run is driven undisturbed, then again while engines, harvest workers, the tree manager, the sample queue,
train workers and the driver are killed with SIGKILL. Engines are scripted and answer deterministically; the trainer is
Ray Train and DeepSpeed on a tiny model, in float32 on one thread, so that trees and weights can be compared bit for
bit. A killed driver is followed by another one that resumes the run. Everything else is as in production.

- `lost`: samples that any segment of the journal committed and that are missing at the end, and tickets that are
  neither committed nor failed.
- `trained_twice`, `not_trained`: rows that were drawn, against the steps the trainer took behind the final weights:
  from its own record of steps, followed through the checkpoints from which it started again.
- `weights_equal`: RUN/target and every round's weights that both runs have kept, bit for bit.
- `ended_by_error`: drivers that gave up although only a part of their run was killed.

Usage: python jobs/bench/chaos.py [--kills 100] [--seed 0] [--rounds 40] [--minutes 45]
Progress goes to stderr; the last line of stdout is one JSON object. The exit code is 1 when a promise was broken.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "chaos")]

from smoke import parse  # noqa: E402
from storm import run_storm  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=45, help="for both runs together")
    parser.add_argument("--folder", help="keep both runs here")
    options = parse(parser, kills=3, rounds=4, minutes=6)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        result = run_storm(folder, options.kills, options.seed, options.rounds, options.minutes)
    print(json.dumps({**result, "seed": options.seed, "rounds": options.rounds, "cores": os.cpu_count()}))
    return 0 if promises_kept(result) else 1


def promises_kept(result: dict) -> bool:
    equal = ("finished", "digest_equal", "weights_equal", "conserved", "bandit_counts_equal")
    none = ("lost", "trained_twice", "not_trained", "misplaced", "samples_without_segment", "ended_by_error")
    return all(result.get(name) is True for name in equal) and not any(result.get(name, True) for name in none)


if __name__ == "__main__":
    sys.exit(main())
