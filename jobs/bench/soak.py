"""What hundreds of rounds cost: does a late round take longer than an early one, and does memory keep growing?

One fusion of many rounds in its default sizes (90 walks, 180 training rows, a tenth of the samples held out) with
scripted engines that answer at once and a scripted trainer. Real: Ray, tree, journal, samples on disk, hand-over, queue
and metrics. At each mark, by default after rounds 10, 200 and 500, it tells

- `round_s`, `harvest_s`, `hand_over_s`: medians over the ten rounds before the mark; a round's whole time runs from the
  end of one harvest to the end of the next;
- `heldout_rows`: rows that the trainer was given to measure after the round;
- `driver_mb`, `gcs_mb`, `agent_mb`: resident memory of the driver, of Ray's control store and of its dashboard agent;
- `series`, `task_series`: series that Ray's agent exports to Prometheus, and those of them that name a task of ours.

`round_s_ratio` and `hand_over_s_ratio` are the last mark against the first.

Usage: python jobs/bench/soak.py [--rounds 500] [--smoke] [--keep FOLDER]      last line: one JSON object
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

TESTS = str(Path(__file__).parents[2] / "tests")
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])

import psutil  # noqa: E402
import ray  # noqa: E402
from scraping import scraped  # noqa: E402
from scripted_parts import scripted_config, scripted_parts  # noqa: E402

from bohdi_ray.fusion import fuse  # noqa: E402
from bohdi_ray.placement.ray_session import SESSION_SETTINGS  # noqa: E402

MARKS, SMOKE_MARKS = (10, 200, 500), (3, 6)
WINDOW = 10  # rounds before a mark that a median is over
LOOK_EVERY_S = 0.5
PROCESSES = {"gcs_mb": "/gcs_server", "agent_mb": "ray::DashboardAgent"}


class Watch(threading.Thread):
    """Follows a run's metrics.jsonl; at each mark it looks at the memory of processes."""

    def __init__(self, metrics: Path, marks: tuple[int, ...]):
        super().__init__(daemon=True)
        self._metrics, self._marks = metrics, marks
        self.seen: dict[int, dict[str, Any]] = {}  # memory and series, by mark
        self._over = threading.Event()

    def run(self) -> None:
        read = 0
        while not self._over.wait(LOOK_EVERY_S):
            if not self._metrics.exists():
                continue
            lines = self._metrics.read_bytes()[read:]
            read += len(lines)
            for mark in self._marks:
                if f'"kind": "round", "round": {mark - 1},'.encode() in lines:
                    self.seen[mark] = {**memory(), **series()}

    def end(self) -> None:
        self._over.set()
        self.join(30)


def memory() -> dict[str, float]:
    """Resident memory in MB of this process, and of those of Ray that it started."""
    found = {"driver_mb": psutil.Process().memory_info().rss / 1e6}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):  # it has ended meanwhile
            program = process.cmdline()[0]
            name = next((name for name, end in PROCESSES.items() if program.endswith(end)), None)
            if name is not None:
                found[name] = process.memory_info().rss / 1e6
    return found


def series() -> dict[str, int]:
    """How many series Ray's agent on this node exports, and how many of them name a task or an actor of a run."""
    try:
        found = scraped()
    except OSError:
        return {}
    return {"series": len(found), "task_series": sum(one.labels.get("Name", "").startswith("bohdi/") for one in found)}


def told(metrics: Path, marks: tuple[int, ...], seen: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures at each mark that the run came to."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()]

    def by_round(kind: str, field: str) -> dict[int, Any]:
        return {record["round"]: record.get(field) for record in records if record["kind"] == kind}

    closed, harvest = by_round("round", "time"), by_round("round", "seconds")
    hand_over, heldout = by_round("hand_over", "seconds"), by_round("training", "num_heldout_rows")
    whole = {round: closed[round] - closed[round - 1] for round in closed if round - 1 in closed}
    figures = {}
    for mark in marks:
        window = range(max(1, mark - WINDOW), mark)
        if mark - 1 not in closed:
            continue
        figures[str(mark)] = {
            "round_s": median(whole, window),
            "harvest_s": median(harvest, window),
            "hand_over_s": median(hand_over, window),
            "heldout_rows": heldout.get(mark - 1),
            **seen.get(mark, {}),
        }
    return figures


def median(values: dict[int, float], window: range) -> float:
    return statistics.median(values[round] for round in window if round in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--smoke", action="store_true", help="a few rounds, to see that it works")
    parser.add_argument("--keep", help="keep the run in this folder")
    options = parser.parse_args()
    rounds, marks = (SMOKE_MARKS[-1], SMOKE_MARKS) if options.smoke else (options.rounds, MARKS)
    marks = tuple(sorted({mark for mark in (*marks, rounds) if mark <= rounds}))
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, _system_config=SESSION_SETTINGS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(options.keep or temporary).resolve() / "run"
        config = scripted_config(
            str(run),
            meditation={"steps": 3, "walks_per_step": 30},
            enlightenment={"steps": 3, "rows_per_step": 60},
            training={"global_batch_size": 60},
            harvest={"max_tasks_in_flight": 4, "tickets_per_task": 8},
            stop={"rounds": rounds},
            observe={"console": "quiet"},
        )
        watch = Watch(run / "metrics.jsonl", marks)
        watch.start()
        summary = fuse(config, parts=scripted_parts())
        watch.end()
        figures = told(run / "metrics.jsonl", marks, watch.seen)
    ray.shutdown()
    first, last = (figures[str(mark)] for mark in (marks[0], marks[-1]))
    result = {
        "rounds": len(summary.rounds),
        "samples": summary.num_accepted,
        "marks": figures,
        "round_s_ratio": last["round_s"] / first["round_s"],
        "hand_over_s_ratio": last["hand_over_s"] / first["hand_over_s"],
        "wall_s": time.monotonic() - began,
        "load_average": os.getloadavg()[1],
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
