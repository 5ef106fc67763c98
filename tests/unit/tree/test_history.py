"""The history of a journal equals what the run itself counted."""

from collections import Counter
from dataclasses import replace

import pytest
from scripted_fusion import ScriptedFusion, make_config, scripted_outcome

from bohdi_ray.errors import RunDirError
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record.history import read_history


class CountingFusion(ScriptedFusion):
    """Also counts, by round, what it hands to `commit_step`."""

    def commit(self, step):
        work = self.manager.work(0)
        outcomes = [
            replace(scripted_outcome(ticket), num_tokens={"answer": 7, "judge": ticket.index})
            for ticket in work.tickets
            if ticket.step == step
        ]
        screened = self.manager.screen(step, outcomes)
        counted = self.__dict__.setdefault("counted", {}).setdefault(work.round, Counter())
        counted["accepted"] += sum(outcome.failure is None for outcome in screened)
        counted["heldout"] += sum(outcome.failure is None and outcome.heldout for outcome in screened)
        counted["rewards"] += sum(outcome.reward or 0 for outcome in screened)
        counted["answer"] += 7 * len(screened)
        counted["judge"] += sum(outcome.num_tokens["judge"] for outcome in screened)
        self.manager.commit_step(step, screened, f"part-{work.round}-{step}")
        self.point()


def test_every_round_is_told_as_it_was():
    fusion = CountingFusion(TreeManager(make_config()), num_rounds=3).run()
    history = read_history(fusion.segments)
    assert [record.round for record in history] == [0, 1, 2, 3]
    for record, closed in zip(history, fusion.closed, strict=False):
        counted = fusion.counted[record.round]
        assert (record.accepted, record.heldout, record.rewards) == (
            counted["accepted"],
            counted["heldout"],
            counted["rewards"],
        )
        assert (record.tokens["answer"], record.tokens["judge"]) == (counted["answer"], counted["judge"])
        assert record.tickets == sum(ticket.round == record.round for ticket in fusion.tickets.values())
        assert record.row_sample_ids == closed.row_sample_ids
        assert record.parts == [f"part-{record.round}-{step}" for step in range(3)]
    asked = sum(record.tokens["sprout"] for record in history)
    assert asked == fusion.manager.stats()["num_sprout_tokens"]
    assert sum(record.failures.total() for record in history) == sum(fusion.manager.stats()["num_failed"].values())


def test_an_open_round_is_told_as_far_as_it_was_committed():
    fusion = CountingFusion(TreeManager(make_config()), num_rounds=3, max_commits=5).run()
    last = read_history(fusion.segments)[-1]
    assert (last.round, last.row_sample_ids, last.parts) == (1, None, ["part-1-0"])
    assert read_history([]) == []


def test_a_manager_that_began_by_replaying_nothing_tells_the_same():
    """As the actor does: its first segment does not open round 0."""
    began = CountingFusion(TreeManager(make_config()), num_rounds=1).run()
    replayed = CountingFusion(TreeManager.replay(make_config(), None, []), num_rounds=1).run()
    assert read_history(began.segments) == read_history(replayed.segments)
    assert b"RoundOpened" not in replayed.segments[0]


def test_a_damaged_segment_is_refused():
    with pytest.raises(RunDirError):
        read_history([b"{}\n"])
