"""How many samples a second go through the whole loop when the engines answer at once.

Real: Ray actors and tasks, routing, tree manager, journal, sample parts on disk, queue. Scripted: what engines and
trainer compute (instant, but Ray actors with their calls). Three sources, one target, so a sample is a question, four
answers and a judgement. The first round warms the worker processes up and is reported apart.

Usage: python jobs/bench/control_plane.py [--walks 400] [--rounds 4]      last line: one JSON object
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

TESTS = str(Path(__file__).parents[2] / "tests")
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from scripted_parts import scripted_config, scripted_parts  # noqa: E402
from smoke import parse  # noqa: E402

from bohdi_ray.fusion import fuse  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=400, help="walks per step; a round has three steps")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=4, help="harvest tasks in flight")
    parser.add_argument("--tickets", type=int, default=32, help="tickets per task")
    options = parse(parser, walks=8, rounds=2)
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        config = scripted_config(
            f"{folder}/run",
            meditation={"steps": 3, "walks_per_step": options.walks},
            enlightenment={"steps": 3, "rows_per_step": 60},
            training={"global_batch_size": 60},
            harvest={"max_tasks_in_flight": options.tasks, "tickets_per_task": options.tickets},
            stop={"rounds": options.rounds},
            observe={"console": "quiet"},
        )
        summary = fuse(config, parts=scripted_parts())
    ray.shutdown()
    first, rest = summary.rounds[0], summary.rounds[1:]
    accepted = sum(r.accepted for r in rest)
    seconds = sum(r.seconds["harvest"] for r in rest)
    result = {
        "samples_per_s": accepted / seconds,
        # With everything between harvests: boundaries, rows read from disk, the queue, the last rounds' training.
        "samples_per_s_whole_loop": summary.num_accepted / summary.seconds["loop"],
        "samples_per_s_first_round": first.accepted / first.seconds["harvest"],
        "samples": accepted,
        "harvest_s": seconds,
        "lost": summary.failures,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
