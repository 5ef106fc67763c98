"""What a round of long rows costs driver and queue: the same number of rows, whose texts are 100 times as long.

One round of rows of each size: written as parts, queued by id, taken, read by id and encoded by a rank's dataset, step
by step, as in training; the objective here keeps nothing of a text, so that reading is what is measured. `driver_mb`,
`queue_mb` and `encoder_mb` are the most resident memory of this process, of the queue's and of the encoder's while the
round is consumed; `mb_per_s`: texts read, uncompressed. `driver_growth`, `queue_growth`: memory with the longest rows
over that with the shortest.

Usage: python jobs/bench/feed.py [--rows 10000] [--kb 10 1000]      last line: one JSON object
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT, HERE = Path(__file__).parents[2], str(Path(__file__).parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), HERE, *filter(None, [os.environ.get("PYTHONPATH")])])

import psutil  # noqa: E402
import ray  # noqa: E402
from smoke import parse, tiny_model  # noqa: E402

from bohdi_ray.actors.sample_queue import start_sample_queue  # noqa: E402
from bohdi_ray.config import FusionConfig  # noqa: E402
from bohdi_ray.examples.kinds import Text  # noqa: E402
from bohdi_ray.examples.store import ExampleStore, example_id  # noqa: E402
from bohdi_ray.run.run_dir import RunDir  # noqa: E402
from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow  # noqa: E402
from bohdi_ray.training.feed.dataset import RankDataset, steps_of  # noqa: E402
from bohdi_ray.training.feed.encoded_step import EncodedStep  # noqa: E402
from bohdi_ray.training.feed.encoder import EncoderSpec  # noqa: E402

ROWS_PER_PART, ROWS_PER_STEP, LOOK_EVERY_S = 100, 128, 0.05


class Length:
    """An objective of which only `encode` is asked: a text becomes its length."""

    example = Text
    terms = ("rows",)
    reference = None

    def encode(self, encoder: Any, example: Any) -> EncodedExample:
        return EncodedExample(example.example_id, (EncodedRow((len(example.text), 0), 1),))


class Memory(threading.Thread):
    """The most resident memory, MB, of this process and of Ray's processes with these names."""

    def __init__(self, **names: str):
        super().__init__(daemon=True)
        self._names, self._over = names, threading.Event()
        self.most: dict[str, float] = dict.fromkeys(("driver", *names), 0.0)

    def run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self._look("driver", psutil.Process())
            for process in psutil.Process().children(recursive=True):
                try:
                    title = " ".join(process.cmdline())
                    for name, part in self._names.items():
                        if part in title:
                            self._look(name, process)
                except psutil.Error:
                    continue  # it has ended meanwhile

    def _look(self, name: str, process: psutil.Process) -> None:
        self.most[name] = max(self.most[name], process.memory_info().rss / 1e6)

    def stop(self) -> dict[str, float]:
        self._over.set()
        self.join()
        return self.most


def write(run: RunDir, num_rows: int, kilobytes: int) -> list[str]:
    """A round's rows, of which no two are alike, and their ids."""
    ids, store = [], ExampleStore(run)
    for part, start in enumerate(range(0, num_rows, ROWS_PER_PART)):
        rows = []
        for i in range(min(ROWS_PER_PART, num_rows - start)):
            unit = f"row {start + i} of {num_rows}. "
            text = (unit * (1000 * kilobytes // len(unit) + 1))[: 1000 * kilobytes]
            rows.append(Text(example_id(Text, 0, part, i), text))
        store.write(0, part, rows)
        ids += [row.example_id for row in rows]
    return ids


def consumed(folder: str, model: str, num_rows: int, kilobytes: int) -> dict[str, float]:
    """One round of rows of this size."""
    from bohdi_ray.training.weights.versions import publish_base

    checkpoints = os.path.join(folder, f"run-{kilobytes}", "checkpoints")
    config = FusionConfig.model_validate(
        {
            "run_dir": os.path.dirname(checkpoints),
            "sources": [{"name": "source", "model": model}],
            "target": {"name": "target", "model": model},
            "training": {"global_batch_size": ROWS_PER_STEP},
        }
    )
    publish_base(config.target, os.path.join(checkpoints, "base"))
    # In a task, as harvests do: what it held must not count as this process's.
    writing = ray.remote(write).remote(RunDir(os.path.dirname(checkpoints)), num_rows, kilobytes)
    ids = ray.get(writing, timeout=600)
    queue = start_sample_queue(config.training, checkpoints)
    memory = Memory(queue="SampleQueueActor", encoder="EncodeBlocks")
    memory.start()
    began = time.perf_counter()
    ray.get(queue.put_round.remote(0, ids), timeout=60)
    ray.get(queue.finish.remote(1), timeout=60)
    num_steps = -(-num_rows // ROWS_PER_STEP)
    dataset = RankDataset(queue, EncoderSpec(config, checkpoints, Length()), 1, 0, num_steps, 0)()
    seen = 0
    for step in steps_of(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)):
        if isinstance(step, EncodedStep):
            seen += len(step.usable)
            assert all(row.rows[0].ids[0] == 1000 * kilobytes for row in step.usable)
    seconds = time.perf_counter() - began
    assert seen == num_rows, (seen, num_rows)
    most = memory.stop()
    ray.kill(queue)
    return {
        **{f"{name}_mb": round(value) for name, value in most.items()},
        "mb_per_s": num_rows * kilobytes / 1e3 / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kb", type=int, nargs=2, default=[10, 1000], help="length of a row's text, shortest, longest")
    options = parse(parser, rows=150, kb=[1, 100])
    with tempfile.TemporaryDirectory() as folder:
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        model = tiny_model()
        sizes = {kilobytes: consumed(folder, model, options.rows, kilobytes) for kilobytes in options.kb}
        ray.shutdown()
    short, long = (sizes[kilobytes] for kilobytes in options.kb)
    growth = {f"{name}_growth": round(long[f"{name}_mb"] / short[f"{name}_mb"], 2) for name in ("driver", "queue")}
    print(json.dumps({"rows": options.rows, **growth, "by_kb": sizes, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
