"""`bohdi miniature build`: a world, its models, and the configuration of their fusion, in one folder.

Models are trained in parallel, each in a process with one thread. This is as fast as training one after another with
two threads, and on one machine the weights then depend only on the seed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from bohdi_ray.errors import ConfigError
from bohdi_ray.studies.miniature.curriculum import lessons
from bohdi_ray.studies.miniature.recipe import MODELS, write_config, write_templates
from bohdi_ray.studies.miniature.sizes import Size
from bohdi_ray.studies.miniature.teaching import teach
from bohdi_ray.studies.miniature.truth import write_tasks, write_world
from bohdi_ray.studies.miniature.world import World, make_world

BUILD = "build.json"  # written last: a folder that has it is whole
Say = Callable[[str], None]


def build(out: Path, size: Size, seed: int, say: Say, num_processes: int = 2) -> World:
    """Builds everything below `out`, a folder that is empty or does not exist yet. Raises ConfigError for any other."""
    started = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("OUT", str(out), "already exists", "Give a folder that is empty or does not exist yet.")
    world = make_world(seed, size.world, tuple(spec.name for spec in size.sources), size.models[-1].name)
    out.mkdir(parents=True, exist_ok=True)
    write_world(world, out)
    write_tasks(world, out)
    templates = write_templates(out)
    write_config(size, seed, out)
    taught = {spec.name: lessons(world, spec.name, templates) for spec in size.models}
    say(f"world: {len(world.leaves)} leaves, {len(world.facts)} facts; teaching {len(size.models)} models")
    # All texts of the world, in a fixed order: every tokenizer is trained on them.
    corpus = [
        text
        for by_role in taught.values()
        for found in by_role.values()
        for lesson in found
        for text in (lesson.prompt, *lesson.completions)
    ]
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_one_thread) as pool:
        pending = []
        for spec in size.models:
            teaching = size.target_teaching if spec is size.models[-1] else size.source_teaching
            folder = out / MODELS / spec.name
            pending.append(pool.submit(teach, spec, taught[spec.name], corpus, teaching, seed, folder, _say_at_once))
        for work in as_completed(pending):
            work.result()
    record = {"seed": seed, "size": asdict(size), "seconds": time.monotonic() - started}
    (out / BUILD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    say(f"built in {record['seconds']:.0f} s: {out}")
    return world


def _one_thread() -> None:
    """Limits a process of the pool to one thread, before torch is loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _say_at_once(line: str) -> None:
    """Prints a line of progress from a process of the pool."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
