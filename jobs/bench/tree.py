"""Benchmark of the knowledge tree: `python jobs/bench/tree.py`; needs no Ray, no model, one core, about half a minute.

On a tree of 10 x 100 x 100 leaves with posteriors as after a long run it measures, best of a few repeats:
- walks_per_s: harvest walks, each with its ticket's own generator, from `work` to the ticket;
- draws_per_s: training rows, drawn in batches of the paper's 60;
- sprout_s: seconds from an answer's arrival through its election to the new child, journal bytes and digest included,
  by number of leaves;
- events_per_s: outcomes screened, credited, journalled and encoded, 30 a step; replay_events_per_s: read and applied;
- bytes_per_leaf: memory of the tree alone; bytes_per_leaf_10_samples: when each leaf has ten samples.
With `--scale`, about two minutes more and 2 GB, also what `tree_scale.py` says, under `scale`.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import time
import tracemalloc
from collections.abc import Iterator

from smoke import parse

from bohdi_ray.config import FusionConfig
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, ticket_id
from bohdi_ray.tree.boundary import draw_samples
from bohdi_ray.tree.elections import hold, request_id
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, pack_ids
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import valid_name
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.record import journal
from bohdi_ray.tree.state import TreeState

SHAPE = (10, 100, 100)
SAMPLES_PER_LEAF = 10
LETTERS = "abcdefghijklmnopqrstuvwxyz"
REPEATS = 5


def config(walks_per_step: int, max_children: tuple[int, ...] | None) -> FusionConfig:
    model = {"kind": "vllm", "model": "./m"}
    return FusionConfig.model_validate(
        {
            "run_dir": "/nowhere",
            "sources": [{"name": name, **model} for name in ("source-a", "source-b", "source-c")],
            "target": {"name": "target", **model},
            "tree": {"max_children": max_children},
            "meditation": {"steps": 1, "walks_per_step": walks_per_step},
        }
    )


def valid_names() -> Iterator[str]:
    words = ("".join(word).capitalize() for word in itertools.product(LETTERS, repeat=5))
    return (word for word in words if valid_name(word) == word)  # a few are fillers, such as Blank


def seeds(shape: tuple[int, ...]) -> dict:
    names = valid_names()

    def level(rest: tuple[int, ...]) -> dict:
        return {next(names): level(rest[1:]) for _ in range(rest[0])} if rest else {}

    return level(shape)


def grow_old(state: TreeState) -> None:
    """Gives every node the posterior of some hundred rewards and every leaf five trainable samples."""
    rng = generator(1, "bench")
    for node in (state.tree.root, *state.tree.nodes()):
        if node.arms is None:
            node.trainable = pack_ids(f"r{number:04d}-s000-t00000" for number in range(5))
            continue
        end = len(node.arms.children) + 1
        node.arms.alpha[1:end] = rng.integers(1, 100, end - 1)
        node.arms.beta[1:end] = rng.integers(1, 100, end - 1)
        node.arms.trainable[1:end] = 5


def old_manager(walks_per_step: int) -> TreeManager:
    manager = TreeManager(config(walks_per_step, SHAPE), seeds(SHAPE))
    grow_old(manager._state)
    manager.digest()
    return manager


def walks_per_s() -> float:
    rates = []
    for _ in range(REPEATS):
        manager = old_manager(10_000)
        gc.collect()
        start = time.perf_counter()
        work = manager.work(0)
        rates.append(len(work.tickets) / (time.perf_counter() - start))
        assert len(work.tickets) == 10_000
    return max(rates)


def draws_per_s(manager: TreeManager) -> float:
    policy = make_policy(manager._config.bandit)
    rates = []
    for repeat in range(REPEATS):
        start = time.perf_counter()
        num_rows = 0
        for step in range(100):
            num_rows += len(draw_samples(manager._state.tree, policy, generator(0, repeat, step, "rows"), 60))
        rates.append(num_rows / (time.perf_counter() - start))
    return max(rates)


def sprout_s(shape: tuple[int, ...], num_sprouts: int = 200) -> float:
    """The median over single sprouts; one sprout makes one leaf below a secondary domain."""
    manager = TreeManager(config(1, None), seeds(shape))
    manager.digest()
    return sprouts_s(manager, num_sprouts)


def sprouts_s(manager: TreeManager, num_sprouts: int) -> float:
    state, emit = manager._state, manager._emit
    parents = [node for top in state.tree.root.arms.children for node in top.arms.children]
    times = []
    for number in range(num_sprouts):
        parent = parents[number % len(parents)]
        tail = "".join(LETTERS[number // 26**place % 26] for place in range(3))
        names = [f"{a}{tail} New {b}" for a, b in zip("AAAABBBCCDDEFGH", "XXXXYYYZZXXYZXY", strict=True)]
        names = tuple(name.title() for name in names)
        start = time.perf_counter()
        emit(journal.Proposed(request_id(parent.path, parent.arms.num_polls), names))
        event = hold(state.tree, parent, 0, reuse_ballots=False)
        assert event is not None and event.winner is not None
        emit(event)
        manager._journal.mark()
        manager.take_segment()
        state.digest()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def events_per_s(num_rounds: int = 100) -> tuple[float, float]:
    """(journalled, replayed) events per second, over rounds of one step of 30 tickets each."""
    manager = TreeManager(config(30, SHAPE), seeds(SHAPE))
    manager.digest()
    manager.take_segment()
    segments, seconds = [], 0.0
    for round in range(num_rounds):
        tickets = manager.work(0).tickets
        outcomes = [Outcome(t.ticket_id, reward=t.index % 2, question_hash=t.ticket_id) for t in tickets]
        start = time.perf_counter()
        manager.commit_step(0, manager.screen(0, outcomes), "part")
        segments.append(manager.take_segment())
        seconds += time.perf_counter() - start
        manager.close_round(round + 1, round + 1)
        segments.append(manager.take_segment())
    num_events = sum(segment.count(b"\n") for segment in segments)
    base = TreeManager(config(30, SHAPE), seeds(SHAPE))
    start = time.perf_counter()
    for segment in segments:
        for event in journal.decode(segment):
            base._state.apply(event)
    replay_s = time.perf_counter() - start
    assert base.digest() == manager.digest()
    return 30 * num_rounds / seconds, num_events / replay_s


def bytes_per_leaf() -> tuple[float, float]:
    """(without samples, with ten each)."""
    plain = seeds(SHAPE)
    used = []
    gc.collect()
    tracemalloc.start()
    manager = TreeManager(config(1, SHAPE), plain)
    for fill in (False, True):
        if fill:
            add_samples(manager.tree)
        manager.digest()
        gc.collect()
        used.append(tracemalloc.get_traced_memory()[0] / manager.tree.num_leaves)
    tracemalloc.stop()
    return used[0], used[1]


def add_samples(tree: KnowledgeTree) -> None:
    """Ten samples for every leaf, one of them held out, in rounds of three steps of 30."""
    rng = generator(1, "scale")
    leaves = [node for node in tree.nodes() if node.arms is None]
    for number, leaf in enumerate(leaves * SAMPLES_PER_LEAF):
        sample_id = ticket_id(number // 90, number // 30 % 3, number % 30)
        heldout = number < len(leaves)
        leaf.add_sample(sample_id, sample_id, heldout)
        leaf.window += b"" if heldout else b"\1"
        leaf.num_samples += 1
    for node in (*reversed([*tree.nodes()]), tree.root):
        tree.touch(node)
        if node.arms is not None:
            children, end = node.arms.children, len(node.arms.children) + 1
            node.num_samples = sum(child.num_samples for child in children)
            node.arms.trainable[1:end] = [child.num_samples * 9 // 10 for child in children]
            node.arms.alpha[1:end] = rng.integers(1, 100, end - 1)
            node.arms.beta[1:end] = rng.integers(1, 100, end - 1)


def main() -> None:
    global SHAPE, REPEATS
    parser = argparse.ArgumentParser(description="Benchmark of the knowledge tree.")
    parser.add_argument("--scale", action="store_true", help="also a million leaves with ten million samples")
    figures: dict[str, object] = {}
    options = parse(parser)
    if options.smoke:
        SHAPE, REPEATS = (10, 10, 10), 1
    if options.scale or options.smoke:
        from tree_scale import SCALE, scale

        figures["scale"] = scale(SHAPE if options.smoke else SCALE)
        gc.collect()
    journalled, replayed = events_per_s()
    empty, filled = bytes_per_leaf()
    figures |= {
        "walks_per_s": round(walks_per_s()),
        "draws_per_s": round(draws_per_s(old_manager(1))),
        "sprout_s": {
            str(shape[0] * shape[1] * shape[2]): round(sprout_s(shape), 7)
            for shape in ((10, 5, 2), (10, 10, 100), SHAPE)
        },
        "events_per_s": round(journalled),
        "replay_events_per_s": round(replayed),
        "bytes_per_leaf": round(empty),
        "bytes_per_leaf_10_samples": round(filled),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
