from collections import Counter

import numpy as np
import pytest
from scripted_fusion import make_config

from bohdi_ray.config.kinds.bandits import DynamicThompsonBandit
from bohdi_ray.errors import RunDirError, StepNotReady
from bohdi_ray.randomness import generator
from bohdi_ray.records import Outcome, ticket_id
from bohdi_ray.tree.boundary import draw_samples
from bohdi_ray.tree.knowledge_tree import pack_ids
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.record import journal

FULL = {"depth": 2, "max_children": (1, 2)}
SEEDS = {"Science": ["Physics", "Chemistry"]}


def manager_of(num_walks=4, steps=1, **sections):
    sections = {"tree": FULL, "bandit": {"window": 3}, "harvest": {"step_lag": 0}, **sections}
    config = make_config(meditation={"steps": steps, "walks_per_step": num_walks}, **sections)
    return TreeManager(config, SEEDS)


def good(ticket, reward, question=None, **more):
    return Outcome(ticket.ticket_id, reward=reward, question_hash=question or ticket.ticket_id, **more)


def commit(manager, outcomes, step=0):
    manager.commit_step(step, manager.screen(step, outcomes), "part")


def find(manager, *path):
    node = manager.describe()
    for name in path:
        node = next(child for child in node["children"] if child["name"] == name)
    return node


def test_a_reward_is_credited_to_every_node_of_the_path():
    manager = manager_of(num_walks=5)
    tickets = manager.work(0).tickets
    rewards = [1, 0, 1, 1, 0]
    commit(manager, [good(*pair) for pair in zip(tickets, rewards, strict=True)])
    science = find(manager, "Science")
    assert (science["alpha"], science["beta"], science["num_samples"], science["trainable"]) == (4, 3, 5, 5)
    assert science["window"] == [1, 1, 0], "the last w rewards in ticket order"
    for name in ("Physics", "Chemistry"):
        leaf = find(manager, "Science", name)
        own = [reward for ticket, reward in zip(tickets, rewards, strict=True) if ticket.path[-1] == name]
        assert (leaf["alpha"], leaf["beta"], leaf["num_samples"]) == (1 + sum(own), 1 + len(own) - sum(own), len(own))
    assert manager.stats()["sum_rewards"] == 3


def test_a_heldout_sample_counts_but_gives_no_credit_and_is_never_drawn():
    manager = manager_of(num_walks=3)
    first, second, third = manager.work(0).tickets
    outcomes = [good(first, 1, heldout=True), good(second, 1), Outcome(third.ticket_id, failure="no_valid_question")]
    commit(manager, outcomes)
    science = find(manager, "Science")
    assert (science["alpha"], science["beta"], science["num_samples"], science["trainable"]) == (2, 1, 2, 1)
    assert science["window"] == [1]
    assert set(manager.close_round(1, 1).row_sample_ids) == {second.ticket_id}
    stats = manager.stats()
    assert (stats["num_committed"], stats["num_heldout"], stats["num_failed"]) == (2, 1, {"no_valid_question": 1})


def test_a_question_its_leaf_already_has_is_a_failure():
    manager = manager_of(num_walks=12)
    tickets = manager.work(0).tickets
    screened = manager.screen(0, [good(ticket, 1, "same") for ticket in reversed(tickets)])
    assert [outcome.ticket_id for outcome in screened] == [ticket.ticket_id for ticket in tickets]
    kept = [t.path for t, outcome in zip(tickets, screened, strict=True) if outcome.failure is None]
    assert sorted(kept) == [("Science", "Chemistry"), ("Science", "Physics")], "one per leaf, the first in ticket order"
    assert {outcome.failure for outcome in screened} == {None, "duplicate_question"}
    assert manager.screen(0, screened) == screened
    with pytest.raises(ValueError, match="screen"):
        manager.commit_step(0, [good(ticket, 1, "same") for ticket in tickets], "part")
    manager.commit_step(0, screened, "part")
    manager.close_round(1, 0)
    again = manager.screen(0, [good(ticket, 1, "same") for ticket in manager.work(0).tickets])
    assert {outcome.failure for outcome in again} == {"duplicate_question"}


def test_committing_twice_changes_nothing():
    manager = manager_of(steps=2)
    outcomes = [good(ticket, 1) for ticket in manager.work(0).tickets]
    commit(manager, outcomes)
    digest, segment = manager.digest(), manager.take_segment()
    manager.commit_step(0, outcomes, "part")
    assert manager.digest() == digest and segment and manager.take_segment() == b""
    commit(manager, [good(t, 0) for t in manager.work(0).tickets if t.step == 1], step=1)
    closed = manager.close_round(1, 1)
    digest = manager.digest()
    manager.commit_step(1, outcomes, "part")  # of the round before
    assert manager.close_round(1, 1) == closed and manager.digest() == digest


def test_a_step_is_committed_in_its_turn_with_all_its_outcomes():
    manager = manager_of(steps=2)
    tickets = manager.work(0).tickets
    with pytest.raises(StepNotReady):
        manager.screen(1, [])
    with pytest.raises(StepNotReady):
        manager.commit_step(1, [], "part")
    with pytest.raises(ValueError, match="one outcome for each"):
        manager.commit_step(0, [good(ticket, 1) for ticket in tickets[1:]], "part")
    with pytest.raises(ValueError, match="committed"):
        manager.close_round(1, 0)
    with pytest.raises(ValueError, match="close_round opens"):
        manager.open_round(1, 0)


@pytest.mark.parametrize(("lag", "expected"), [(0, [1, 2, 3]), (1, [2, 3, 3]), (2, [3, 3, 3]), (9, [3, 3, 3])])
def test_walks_start_when_the_credit_they_may_see_is_committed(lag, expected):
    manager = manager_of(steps=3, harvest={"step_lag": lag})
    walked = []
    for step in range(3):
        work = manager.work(0)
        walked.append(manager._state.num_walked)
        assert manager.committable() == step
        commit(manager, [good(t, 1) for t in work.tickets if t.step == step], step)
    assert walked == expected
    assert manager.committable() is None


def test_rows_are_drawn_before_anything_of_the_next_round():
    manager = manager_of(num_walks=8, enlightenment={"steps": 3, "rows_per_step": 20})
    tickets = manager.work(0).tickets
    commit(manager, [good(ticket, 1) for ticket in tickets])
    closed = manager.close_round(1, 0)
    assert len(closed.row_sample_ids) == 60 and closed.round == 0
    assert set(closed.row_sample_ids) <= {ticket.ticket_id for ticket in tickets}
    batches = {closed.row_sample_ids[start : start + 20] for start in (0, 20, 40)}
    assert len(batches) == 3, "every batch has a generator of its own"
    commit(manager, [Outcome(ticket.ticket_id, failure="refusal") for ticket in manager.work(0).tickets])
    assert manager.close_round(2, 0).row_sample_ids != closed.row_sample_ids, "and so has every round"


def test_a_round_without_samples_trains_on_nothing():
    manager = manager_of()
    commit(manager, [Outcome(t.ticket_id, failure="refusal") for t in manager.work(0).tickets])
    assert manager.close_round(1, 1).row_sample_ids == ()


def test_introspection_runs_only_before_another_target_and_after_the_rows():
    def closed_with(version, **bandit):
        manager = manager_of(num_walks=40, bandit={"window": 20, "threshold": 0.2, **bandit})
        tickets = manager.work(0).tickets
        commit(manager, [good(ticket, int(ticket.index < 20)) for ticket in tickets])
        return manager.close_round(1, version), manager

    changed, manager = closed_with(1)
    rebirth = next(rebirth for rebirth in changed.reborn if rebirth.path == ("Science",))
    assert (rebirth.before, rebirth.after) == ((21, 21), (1, 21))
    science = find(manager, "Science")
    assert (science["alpha"], science["beta"], science["num_samples"]) == (1, 21, 40)
    assert [rebirth.path for rebirth in changed.reborn] == sorted(rebirth.path for rebirth in changed.reborn)
    same, manager = closed_with(0)
    assert same.reborn == () and find(manager, "Science")["alpha"] == 21
    assert same.row_sample_ids == changed.row_sample_ids, "rebirths must not be visible to the draws"
    assert closed_with(1, introspection=False)[0].reborn == ()
    assert closed_with(1, window=41)[0].reborn == (), "a window that is not full is not tested"


def test_training_draws_follow_thompson_sampling_and_are_uniform_in_a_leaf():
    """20,000 draws: two arms by the closed form P(Beta(2,1) > Beta(1,1)) = 2/3, samples alike, within 5 errors."""
    manager = manager_of()
    tree = manager._state.tree
    science = tree.find(("Science",))
    tree.root.arms.trainable[1] = 4
    a, b, c, d = (ticket_id(0, 0, index) for index in range(4))
    for node, ids in ((science.arms.children[0], [a, b, c]), (science.arms.children[1], [d])):
        node.trainable = pack_ids(ids)
        science.arms.trainable[node.index] = len(ids)
    science.arms.alpha[1] = 2.0
    num_rows = 20_000
    counts = Counter(draw_samples(tree, make_policy(DynamicThompsonBandit()), generator(3, "rows"), num_rows))
    for sample_id, share in {a: 2 / 9, b: 2 / 9, c: 2 / 9, d: 1 / 3}.items():
        assert abs(counts[sample_id] / num_rows - share) < 5 * (share * (1 - share) / num_rows) ** 0.5


def test_a_batched_training_draw_follows_the_best_live_arm_of_each_node():
    """Scores are fixed here, so the walk is known: the best child that has trainable samples, the first of equals."""

    class Fixed:
        def scores(self, rng, alpha, beta, plays, in_flight):
            return alpha / (alpha + beta)

    config = make_config(tree={"depth": 3})
    rng = np.random.default_rng(5)
    names = iter(f"{a}{b}{c}" for a in "ABCDEFGHIJ" for b in "abcdefghij" for c in "abcdefghij")
    seeds = {next(names): {next(names): [next(names) for _ in range(4)] for _ in range(3)} for _ in range(3)}
    tree, ids = TreeManager(config, seeds)._state.tree, {}
    for node in tree.nodes():
        node.parent.arms.alpha[node.index] = rng.integers(1, 4)
        if node.arms is None and rng.random() < 0.5:
            ids[node] = ticket_id(0, 0, len(ids))
            node.trainable = pack_ids([ids[node]])
            up = node
            while up.parent is not None:
                up.parent.arms.count_trainable(up.index)
                up = up.parent

    def best(node):
        while node.arms is not None:
            live = [child for child in node.arms.children if child.num_trainable > 0]
            node = max(live, key=lambda child: child.posterior[0] / sum(child.posterior))
        return ids[node]

    assert draw_samples(tree, Fixed(), rng, 7) == [best(tree.root)] * 7


def test_a_snapshot_is_refused_while_walks_are_under_way():
    manager = manager_of()
    manager.copy_state()
    manager.work(0)
    with pytest.raises(ValueError, match="right after"):
        manager.copy_state()


def test_a_journal_that_is_damaged_or_of_another_tree_is_refused():
    manager = manager_of(num_walks=8)
    commit(manager, [good(ticket, 1) for ticket in manager.work(0).tickets])
    segment = manager.take_segment()
    assert TreeManager.replay(manager._config, SEEDS, [segment]).digest() == manager.digest()
    for wrong in (segment[:-9], b"{}\n", b'{"event":"Exploded"}\n', b"\xff\n"):
        with pytest.raises(RunDirError):
            TreeManager.replay(manager._config, SEEDS, [wrong])
    with pytest.raises(RunDirError, match=r"tree\.seed"):
        TreeManager.replay(manager._config, ["Arts"], [segment])
    with pytest.raises(RunDirError):
        TreeManager.restore(manager._config, b"nothing")


def test_every_kind_of_event_survives_its_bytes():
    path = ("Science", "Physics")
    events = [
        journal.RoundOpened(1, 0),
        journal.Proposed("sprout/0", ("Arts",), 1, 2),
        journal.Elected(path, True, None, {"Arts": 1}),
        journal.UnkClosed(path),
        journal.Walked(0, 1, path),
        journal.Abandoned(0, 2),
        journal.WalksDone(0),
        journal.Credited("r0000-s000-t00001", path, "ab", None),
        journal.Failed("r0000-s000-t00001", "refusal"),
        journal.StepCommitted(0, "part"),
        journal.RowsDrawn(("r0000-s000-t00001",)),
        journal.Aged(),
        journal.Reborn(path, 1.0, 2.0, None, 0.0),
    ]
    assert list(journal.decode(journal.encode(events))) == events
    assert len(events) == len(journal.AnyEvent.__args__)


def test_the_digest_sees_every_part_of_the_state():
    def digest_after(change):
        manager = manager_of(num_walks=6)
        commit(manager, [good(ticket, 1) for ticket in manager.work(0).tickets])
        manager.digest()
        state = manager._state
        leaf = state.tree.find(("Science", "Physics"))
        change(state, leaf)
        for node in (leaf, leaf.parent, state.tree.root):
            state.tree.touch(node)
        return manager.digest()

    def alpha(state, leaf):
        leaf.parent.arms.alpha[leaf.index] += 1

    def unk(state, leaf):
        leaf.parent.arms.beta[0] += 1

    changes = [
        lambda state, leaf: None,
        alpha,
        unk,
        lambda state, leaf: setattr(leaf, "window", b"\0" + leaf.window[1:]),
        lambda state, leaf: setattr(leaf, "num_samples", 99),
        lambda state, leaf: leaf.parent.arms.ballot.update(Arts=1),
        lambda state, leaf: setattr(leaf, "trainable", pack_ids(reversed(leaf.trainable_ids()))),
        lambda state, leaf: setattr(leaf, "heldout", pack_ids([ticket_id(9, 9, 9)])),
        lambda state, leaf: setattr(leaf, "questions", leaf.questions + b"12345678"),
        lambda state, leaf: setattr(leaf.parent.arms, "memory", b"x"),
        lambda state, leaf: setattr(leaf.parent.arms, "closed_in_round", 0),
        lambda state, leaf: setattr(leaf.parent.arms, "num_elections", 3),
        lambda state, leaf: setattr(state, "weights_version", 3),
        lambda state, leaf: setattr(state.counts, "num_abandoned", 3),
    ]
    assert len({digest_after(change) for change in changes}) == len(changes)


def test_leaves_for_replay_are_drawn_from_all_alike_and_nothing_changes():
    seeds = {"Science": {"Physics": ["Optics", "Acoustics"]}, "Arts": {"Music": ["Harmony"]}}
    manager = TreeManager(make_config(), seeds)
    before = manager.digest()
    leaves = Counter(manager.draw_leaves(3, 3000))
    physics = ("Science", "Physics")
    assert set(leaves) == {(*physics, "Optics"), (*physics, "Acoustics"), ("Arts", "Music", "Harmony")}
    assert all(900 < number < 1100 for number in leaves.values())
    assert manager.draw_leaves(3, 5) == manager.draw_leaves(3, 5) != manager.draw_leaves(4, 5)
    assert manager.digest() == before
    assert TreeManager(make_config(), None).draw_leaves(0, 5) == ()
