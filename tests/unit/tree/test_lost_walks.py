"""Walks that find no domain are lost for a reason, which live work, replay, snapshots and history tell alike."""

import pytest
from scripted_fusion import make_config, snapshot_of

from bohdi_ray.records import EngineReply, Outcome, Proposals
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record.history import read_history

SECTIONS = {
    "tree": {"depth": 1},
    "sprout": {"reuse_ballots": False, "requests_ahead": 0, "max_failures": 2},
    "meditation": {"steps": 2, "walks_per_step": 3},
}


def walked_out(problem="", names=(), seeds=None) -> TreeManager:
    """A manager both of whose elections at the root failed, at the end of its first step."""
    manager = TreeManager(make_config(**SECTIONS), seeds)
    for _ in range(2):
        (request,) = manager.work(0).sprouts
        manager.propose(Proposals(request.request_id, names, 5, 0, problem=problem))
    return manager


@pytest.mark.parametrize(
    ("problem", "names", "reason"),
    [
        ("sources_failed", (), "sources_failed"),
        ("no_proposals", (), "no_proposals"),
        ("no_supported_name", (), "no_supported_name"),
        ("", (), "no_valid_name"),
        ("", ("?!",), "no_valid_name"),  # no name, whoever sends it
    ],
)
def test_a_walk_without_a_domain_is_lost_for_what_its_sources_said(problem, names, reason):
    assert walked_out(problem, names).work(0).abandoned_for == {
        reason: 3 + 3 * (make_config(**SECTIONS).harvest.step_lag > 0)
    }


def test_names_that_are_all_taken_are_another_reason():
    config = make_config(**{**SECTIONS, "tree": {"depth": 2}, "meditation": {"steps": 1, "walks_per_step": 1}})
    manager = TreeManager(config, {"Arts": []})
    while manager.work(0).sprouts:
        (request,) = manager.work(0).sprouts
        manager.propose(Proposals(request.request_id, ("Arts",), 0, 0))
    assert manager.work(0).abandoned_for == {"names_taken": 1}


def test_replay_snapshot_and_history_count_the_same_walks():
    manager = walked_out("no_proposals")
    manager.commit_step(0, [], "")
    first = manager.take_segment()
    kept = snapshot_of(manager) if manager._digest is None else None
    manager.work(0)
    manager.commit_step(1, [], "")
    second = manager.take_segment()
    lost = {"no_proposals": 6}
    assert manager.work(0).abandoned_for == lost
    again = TreeManager.replay(make_config(**SECTIONS), None, [first, second])
    assert again.work(0).abandoned_for == lost
    assert dict(read_history([first, second])[0].abandoned) == lost
    assert kept is not None
    # The second step's walks are walked again, for the reason for which the node was closed in the first.
    restored = TreeManager.restore(make_config(**SECTIONS), kept)
    assert restored.work(0).abandoned_for == lost


def test_another_round_begins_without_them():
    manager = walked_out("no_proposals")
    manager.work(0)
    manager.commit_step(0, [], "")
    manager.commit_step(1, [], "")
    manager.close_round(1, 0)
    assert not manager.work(0).abandoned_for
    segment = manager.take_segment()
    assert [dict(record.abandoned) for record in read_history([segment])] == [{"no_proposals": 6}, {}]


def completion(text: str) -> EngineReply:
    return EngineReply("r", "ada", 0, text=text, finish_reason="stop")


@pytest.mark.parametrize(
    ("texts", "num_valid", "problem"),
    [((), 0, "sources_failed"), (("", " \n"), 0, "no_proposals"), (("12", ""), 0, "no_valid_name")],
)
def test_a_poll_without_names_says_why(texts, num_valid, problem):
    from bohdi_ray.harvest.sprout import problem_of

    assert problem_of([completion(text) for text in texts], num_valid) == problem


def test_names_without_support_are_told_apart():
    from bohdi_ray.harvest.sprout import problem_of

    assert problem_of([completion("Arts")], 1) == "no_supported_name"


def test_a_held_out_sample_is_told_by_its_id():
    config = make_config(**{**SECTIONS, "meditation": {"steps": 1, "walks_per_step": 2}})
    manager = TreeManager(config, {"Arts": None})
    while manager.work(0).sprouts:
        (request,) = manager.work(0).sprouts
        manager.propose(Proposals(request.request_id, ("Music",), 0, 0))
    tickets = manager.work(0).tickets
    held = Outcome(tickets[0].ticket_id, reward=1, question_hash="0" * 32, heldout=True)
    failed = [Outcome(ticket.ticket_id, failure="none") for ticket in tickets[1:]]
    manager.commit_step(0, [held, *failed], "part")
    (record,) = read_history([manager.take_segment()])
    assert (record.heldout, record.heldout_ids) == (1, [tickets[0].ticket_id])
