"""What must hold after any death, computed from what a run left on disk: journal, samples, checkpoints, and the
trainer's own record of its steps. Pure readers; nothing here asks a process of the run.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_log import log_of

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.records import Sample
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.run.tree_snapshots import restore
from bohdi_ray.training.feed.steps import cut_round
from bohdi_ray.tree.knowledge_tree import Node
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import journal

Row = tuple[int, int, str]  # global step, place in it, sample id


@dataclass
class Accounts:
    """All figures are 0 and all lists empty where a run kept its promises."""

    issued: int
    committed: int
    failed: int
    in_flight: int
    lost: list[str]  # credited in a segment that was seen at any time, but not among the samples at the end
    unknown: list[str]  # samples that no segment credits
    miscounted: list[str]  # domains whose counts are not those of the samples below
    trained_twice: int = 0
    not_trained: int = 0
    misplaced: int = 0  # rows trained that were not drawn

    @property
    def conserved(self) -> bool:
        return self.issued == self.committed + self.failed + self.in_flight

    def check(self) -> None:
        assert self.conserved, self
        assert not (self.lost or self.unknown or self.miscounted), self
        assert not (self.trained_twice or self.not_trained or self.misplaced), self


def accounts_of(folder: str | Path, seen: dict[int, bytes] | None = None, trainer_recorded: bool = True) -> Accounts:
    """`seen`: segments by number that somebody read while the run was under way."""
    run = RunDir.open(str(folder))
    config = run.config()
    segments = dict(Segments(run).read_segments().segments)
    samples = {sample.sample_id: sample for sample in SampleStore(run).iter_samples()}
    manager = restore(config, None, run).manager
    stats = manager.stats()
    accounts = Accounts(
        stats["num_issued"],
        stats["num_committed"],
        sum(stats["num_failed"].values()),
        stats["num_in_flight"],
        lost=sorted((credited(segments.values()) | credited((seen or {}).values())) - samples.keys()),
        unknown=sorted(samples.keys() - credited(segments.values())),
        miscounted=miscounted(manager, samples.values()),
    )
    if trainer_recorded:
        _count_training(accounts, folder, drawn_rows(segments.values(), config.training.global_batch_size))
    return accounts


def credited(segments: Iterable[bytes]) -> set[str]:
    """Ids of the samples that these segments commit."""
    events = (event for segment in segments for event in journal.decode(segment))
    return {event.ticket_id for event in events if isinstance(event, journal.Credited)}


def drawn_rows(segments: Iterable[bytes], global_batch_size: int) -> set[Row]:
    rows: set[Row] = set()
    next_step = 0
    for event in (event for segment in segments for event in journal.decode(segment)):
        if isinstance(event, journal.RowsDrawn):
            for step in cut_round(0, next_step, event.sample_ids, [], global_batch_size):
                rows.update((step.step, place, one) for place, one in enumerate(step.rows))
                next_step = step.step + 1
    return rows


def miscounted(manager: TreeManager, samples: Iterable[Sample]) -> list[str]:
    """Domains whose number of samples, trainable samples, or last rewards differ from the samples below them; under
    `dynabranches` without rebirths, those whose posterior is not Beta(1 + wins, 1 + losses) of the sources, too."""
    state = manager._state
    rewards: dict[tuple[str, ...], list[int]] = defaultdict(list)
    number: Counter[tuple[str, ...]] = Counter()
    for sample in sorted(samples, key=lambda sample: sample.sample_id):
        for depth in range(len(sample.path) + 1):
            number[sample.path[:depth]] += 1
            if not sample.heldout:
                rewards[sample.path[:depth]].append(sample.reward)
    exact = state.config.bandit.kind == "dynabranches" and not state.counts.num_rebirths
    wrong = [
        path
        for path in number.keys() | {node.path for node in state.tree.nodes()}
        if not _fits(state.tree.find(path), number[path], rewards[path], state.policy.max_window, exact)
    ]
    return sorted("/".join(path) or "the root" for path in wrong)


def _fits(node: Node, number: int, rewards: list[int], window: int, exact: bool) -> bool:
    if (node.num_samples, node.num_trainable) != (number, len(rewards)):
        return False
    if node.parent is None:
        return True
    if exact and node.posterior != (1 + sum(rewards), 1 + len(rewards) - sum(rewards)):
        return False
    return list(node.window) == rewards[-window:]


# What the trainer did


@dataclass
class _Learner:
    """One start of one rank."""

    started_from: str  # checkpoint folder
    with_optimizer: bool
    rows: list[Row] = field(default_factory=list)


def lineage(lines: Iterable[dict[str, Any]], folder: Path, rank: int = 0) -> list[Row]:
    """The rows behind the newest state in `folder`, a committed checkpoint: those its writer stepped through before it
    wrote, behind those of the state that the writer had started from, back to version 0.

    Who wrote is who wrote last: a folder is emptied before it is written and never written again once committed.
    """
    learners: dict[str, _Learner] = {}
    written: dict[tuple[str, str], tuple[str, int]] = {}  # (kind, folder) -> writer, rows stepped through by then
    for line in lines:
        if line["rank"] != rank:
            continue
        name = line["learner"]
        if line["event"] == "start":
            learners[name] = _Learner(str(Path(line["weights"]).parent), line["optimizer"] is not None)
        elif line["event"] == "step":
            learners[name].rows += [(step, place, sample_id) for step, place, sample_id in line["rows"]]
        else:
            written[line["event"], str(Path(line["folder"]).parent)] = name, len(learners[name].rows)
    rows: list[Row] = []
    kind, at = "weights", str(folder)
    while (kind, at) in written:
        name, count = written[kind, at]
        rows = learners[name].rows[:count] + rows
        kind, at = "optimizer" if learners[name].with_optimizer else "weights", learners[name].started_from
    assert Path(at).name == "base", f"nobody is known to have written the {kind} of {at}"
    return rows


def _count_training(accounts: Accounts, folder: str | Path, drawn: set[Row]) -> None:
    newest = RunDir.open(str(folder)).committed_rounds()[-1]
    lines = [json.loads(line) for line in log_of(folder).read_text().splitlines()]
    rows: Counter[Row] = Counter()
    for rank in {line["rank"] for line in lines}:
        rows.update(lineage(lines, Path(folder) / "checkpoints" / f"round-{newest}", rank))
    accounts.trained_twice = sum(count - 1 for count in rows.values())
    accounts.not_trained = len(drawn - rows.keys())
    accounts.misplaced = len(rows.keys() - drawn)


def weights_differ(folder: str | Path, other: str | Path) -> list[str]:
    """What is not bit for bit the same between two runs: names of tensors of RUN/target and of every round's weights
    that both still have."""
    from safetensors.numpy import load_file

    rounds = set(RunDir.open(str(folder)).committed_rounds()) & set(RunDir.open(str(other)).committed_rounds())
    assert rounds, "no round's weights to compare"
    wrong = []
    for name in ("target", *(f"checkpoints/round-{round}/weights" for round in sorted(rounds))):
        files = sorted(path.name for path in (Path(folder) / name).glob("*.safetensors"))
        assert files, f"{folder}/{name} holds no weights"
        for file in files:
            one, two = load_file(Path(folder) / name / file), load_file(Path(other) / name / file)
            tensors = one.keys() | two.keys()
            wrong += [
                f"{name}: {tensor}"
                for tensor in sorted(tensors)
                if tensor not in one or tensor not in two or one[tensor].tobytes() != two[tensor].tobytes()
            ]
    return wrong
