"""Snapshots: what they hold, that a copy stays as it is, and what is refused."""

import gc
import random
from io import BytesIO

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_fusion import ScriptedFusion, Sharing, digest_afresh, make_config, snapshot_of, whole

from bohdi_ray.config.kinds.bandits import DynabranchesBandit
from bohdi_ray.errors import RunDirError
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import snapshot
from bohdi_ray.tree.record.journal import Reborn

BANDIT = {"window": 4, "threshold": 0.9}
CONFIG = make_config(bandit=BANDIT, harvest={"step_lag": 1}, sprout={"requests_ahead": 3})


def sharing():
    return Sharing(DynabranchesBandit(**BANDIT))


def fusion(seed=0, rounds=3, manager=None):
    manager = manager or TreeManager(CONFIG, policy=sharing())
    return ScriptedFusion(manager, num_rounds=rounds, order=random.Random(seed), answer_ahead=1.0)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), num_commits=st.integers(1, 11))
def test_a_snapshot_holds_everything_also_what_the_digest_does_not_see(seed, num_commits):
    run = fusion(seed)
    run.max_commits = num_commits
    run.run()
    restored = TreeManager.restore(CONFIG, snapshot_of(run.manager), sharing())
    assert whole(restored) == whole(run.manager)
    assert digest_afresh(restored.tree) == run.manager.tree.digest()
    ahead = fusion(seed + 1, manager=restored).run()
    assert run.digests + ahead.digests == fusion(seed).run().digests
    assert gc.isenabled()


def test_the_scripts_reach_what_a_snapshot_must_hold():
    run = fusion(3)
    seen = set()
    while run.manager.stats()["round"] < 3:
        run.turn()
        if run.manager._digest is None:
            state = run.manager._state
            seen |= {"in flight"} if state.in_flight else set()
            seen |= {"proposals"} if any(n.arms.proposals for n in state.tree.nodes() if n.arms) else set()
            seen |= {"memory"} if state.tree.root.arms.memory else set()
            seen |= {"testable"} if state.testable else set()
            seen |= {"reborn"} if state.last_closed and state.last_closed.reborn else set()
            seen |= {"heldout"} if any(n.heldout for n in state.tree.nodes()) else set()
    assert seen == {"in flight", "proposals", "memory", "testable", "reborn", "heldout"}


def test_an_infinite_statistic_survives():
    run = fusion(3).run()
    state = run.manager._state
    state.apply(Reborn(next(iter(state.tree.nodes())).path, 1.0, 2.0, None, 0.0))
    restored = TreeManager.restore(CONFIG, snapshot_of(run.manager), sharing())
    assert restored._state.last_closed == state.last_closed
    assert restored._state.last_closed.reborn[-1].statistic == float("inf")


def test_a_copy_stays_as_it_is_while_the_manager_goes_on():
    run = fusion(5)
    run.max_commits = 4
    run.run()
    before, copy = snapshot_of(run.manager), run.manager.copy_state()
    run.max_commits = None
    run.run()
    sink = BytesIO()
    snapshot.write(copy, sink)
    assert sink.getvalue() == before != snapshot_of(run.manager)
    assert TreeManager.restore(CONFIG, before, sharing()).digest() == run.digests[3] != run.digests[-1]


def test_a_snapshot_of_many_nodes_spans_batches(monkeypatch):
    run = fusion(2).run()
    monkeypatch.setattr(snapshot, "BATCH_BYTES", 500)
    data = snapshot_of(run.manager)
    assert pa.ipc.open_file(data).num_record_batches > 3
    assert whole(TreeManager.restore(CONFIG, data, sharing())) == whole(run.manager)


def with_metadata(data, **changes):
    """The same rows under another header, or with another `progress`."""
    table = pa.ipc.open_file(data).read_all()
    metadata = dict(table.schema.metadata)
    metadata[snapshot.PROGRESS] = changes.pop("progress", metadata[snapshot.PROGRESS])
    metadata[snapshot.KEY] = msgspec.json.encode({**msgspec.json.decode(metadata[snapshot.KEY]), **changes})
    sink = BytesIO()
    with pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    return sink.getvalue()


def test_what_is_damaged_or_does_not_fit_is_refused():
    data = snapshot_of(fusion(1).run().manager)
    restored = TreeManager.restore(CONFIG, with_metadata(data), sharing())
    assert snapshot_of(restored) == data
    for wrong, words in (
        (data[:-20], "cannot be read"),
        (b"", "cannot be read"),
        (msgspec.msgpack.encode({"version": 1}), "the journal is sufficient"),
        (with_metadata(data, version=1), "version 1"),
        (with_metadata(data, depth=2), "does not fit"),
        (with_metadata(data, digest="0" * 32), "digest"),
        (with_metadata(data, progress=b"\x80"), "cannot be read"),
    ):
        with pytest.raises(RunDirError, match=words):
            TreeManager.restore(CONFIG, wrong, sharing())
    with pytest.raises(RunDirError, match="under Sharing"):
        TreeManager.restore(CONFIG, data)
