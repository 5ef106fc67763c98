"""The held-out rows of a round: bounded, seeded, and the same ones again as long as can be."""

from __future__ import annotations

import random

from bohdi_ray.evaluation.heldout_trail import HeldoutTrail
from bohdi_ray.training.feed.heldout_subset import HeldoutSubset

IDS = [f"r{round:04d}-s000-t{index:05d}" for round in range(50) for index in range(8)]


def subset(ids, size=20, seed=0) -> HeldoutSubset:
    made = HeldoutSubset(size, seed)
    made.add(ids)
    return made


def test_few_rows_are_all_kept_and_many_are_bounded():
    assert subset(IDS[:20]).ids() == IDS[:20]
    assert len(subset(IDS).ids()) == 20 and set(subset(IDS).ids()) <= set(IDS)


def test_the_subset_depends_on_seed_and_ids_alone():
    shuffled = IDS * 2
    random.Random(1).shuffle(shuffled)
    assert subset(shuffled).ids() == subset(IDS).ids()
    assert subset(IDS, seed=1).ids() != subset(IDS).ids()


def test_every_row_is_as_likely_whenever_it_came():
    counts = [0] * 5
    for seed in range(400):
        for sample_id in subset(IDS, seed=seed).ids():
            counts[IDS.index(sample_id) // 80] += 1
    assert max(counts) < 1.15 * 8000 / 5 and min(counts) > 0.85 * 8000 / 5


def test_a_row_that_is_dropped_never_comes_back_and_few_change_in_a_round():
    growing, before, dropped = HeldoutSubset(20, 0), set(), set()
    for start in range(0, len(IDS), 8):
        growing.add(IDS[start : start + 8])
        now = set(growing.ids())
        dropped |= before - now
        assert not dropped & now
        if start >= 200:
            assert len(now - before) <= 4
        before = now


# The trail of losses over a subset that changes.


def measured(trail: HeldoutTrail, losses: list[float], difficulty, rows_of) -> None:
    for version, loss in enumerate(losses, start=1):
        trail.add(version, {row: (loss + difficulty(row), 1) for row in rows_of(version)})


def test_the_best_version_is_found_although_its_rows_are_gone():
    """Versions get worse and then slowly better, while harder and harder rows take the place of all that the best
    version was measured on."""
    losses = [2.0, 1.0, *(1.5 - 0.01 * i for i in range(60))]  # version 2 is beaten by version 54
    trail = HeldoutTrail()
    measured(trail, losses, lambda row: 0.1 * row, lambda version: range(version, version + 10))
    assert trail.best_version == len(losses) and trail.rounds_without_gain == 0
    shorter = HeldoutTrail()
    measured(shorter, losses[:50], lambda row: 0.1 * row, lambda version: range(version, version + 10))
    assert (shorter.best_version, shorter.rounds_without_gain) == (2, 48)


def test_easier_rows_are_no_gain():
    trail = HeldoutTrail()
    measured(trail, [1.0] * 40, lambda row: -0.1 * row, lambda version: range(version, version + 10))
    assert trail.best_version == 1


def test_a_version_that_shares_no_row_with_any_other_counts_as_a_gain():
    trail = HeldoutTrail()
    trail.add(1, {"a": (1.0, 1)})
    trail.add(2, {"b": (9.0, 1)})
    assert (trail.best_version, trail.behind) == (2, 0.0)
