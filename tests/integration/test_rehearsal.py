"""Fusions with `training.rehearsal`: what version 0 of the target is sure of is trained on beside what the bandit
drew."""

import json
from collections import Counter

import pytest
import ray
from long_cases import long
from scripted_parts import Faults, scripted_config, scripted_parts
from shared_card import SharedCard
from step_log import log_of

from bohdi_ray.driver import components
from bohdi_ray.driver.target.rehearsal import Rehearsals
from bohdi_ray.errors import BohdiError
from bohdi_ray.examples.rehearsal_store import RehearsalStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(240)]

REPLAY = {"share": 0.25, "min_probability": 0.1, "questions_per_row": 4, "rounds_per_visit": 1}


def config(folder, **changes):
    sections = {
        "meditation": {"steps": 2, "walks_per_step": 8},
        "enlightenment": {"steps": 2, "rows_per_step": 12},
        "training": {"rehearsal": REPLAY, "global_batch_size": 8},
        "stop": {"rounds": 3},
        **changes,
    }
    return scripted_config(str(folder), **sections)


def trained_rows(folder):
    """Sample ids of every step that was trained, in order of the log."""
    lines = [json.loads(line) for line in log_of(folder).read_text().splitlines()]
    return [[row[2] for row in line["rows"]] for line in lines if line["event"] == "step"]


def test_each_round_trains_on_its_rehearsal_and_the_target_goes_on_with_its_own_weights(tmp_path, capfd):
    summary = fuse(config(tmp_path / "run"), parts=scripted_parts(log_steps=True))
    store = RehearsalStore(RunDir.open(tmp_path / "run"))
    steps = trained_rows(tmp_path / "run")
    rehearsed = [sample_id for step in steps for sample_id in step if sample_id.startswith("replay-")]
    kept = [one for round in range(3) for one in store.kept_ids(round, 8)]
    assert rehearsed == kept and {row.split("-t")[0] for row in kept} == {f"replay-r000{round}" for round in range(3)}
    assert [len(store.read(round)) for round in range(3)] == [32, 32, 32]
    assert all(1 <= sum(row.startswith("replay-") for row in step) <= 3 for step in steps)
    assert [r.training_rows for r in summary.rounds] == [24 + len(store.kept_ids(round, 8)) for round in range(3)]
    # Harvested with the versions that a fusion without rehearsal harvests with: version 0 was there for the rehearsal
    # only.
    assert [r.weights_version for r in summary.rounds] == [0, 0, 1]
    assert "round 0: version 0 is sure of" in "".join(capfd.readouterr())


def test_one_visit_to_version_0_asks_for_several_rounds_and_a_resumed_run_asks_for_none_again(tmp_path, monkeypatch):
    rounds, ask, folders = [], Rehearsals.ask, (tmp_path / "whole", tmp_path / "stopped")

    async def listed(self, round):
        counts = await ask(self, round)
        rounds.append((round, len(counts)))
        return counts

    monkeypatch.setattr(Rehearsals, "ask", listed)
    training = {"training": {"rehearsal": REPLAY | {"rounds_per_visit": 2}, "global_batch_size": 8}}
    whole = fuse(config(folders[0], **training), parts=scripted_parts(log_steps=True))
    assert rounds == [(0, 2), (2, 1)], "after round 0 for rounds 0 and 1; the run ends with round 2"
    rounds.clear()
    fuse(config(folders[1], **training, stop={"rounds": 1}), parts=scripted_parts(log_steps=True))
    assert rounds == [(0, 1)]
    summary = fuse(config(folders[1], **training), resume=True, parts=scripted_parts(log_steps=True))
    assert rounds == [(0, 1), (1, 1), (2, 1)], "round 1 lay beyond the end"
    stores = [RehearsalStore(RunDir.open(folder)) for folder in folders]
    assert [stores[0].read(round) for round in (0, 2)] == [stores[1].read(round) for round in (0, 2)]
    assert all(len(store.read(round)) == 32 for store in stores for round in range(3))
    for store, one in zip(stores, (whole, summary), strict=True):
        kept = [store.kept_ids(round, 8) for round in range(3)]
        assert [r.training_rows for r in one.rounds] == [24 + len(ids) for ids in kept]
        assert [r.tokens["rehearsal"] for r in one.rounds] == [store.figures(round).num_tokens for round in range(3)]
        every = [one for ids in kept for one in ids]
        assert len(set(every)) == len(every), "no round trains on another's while there are enough"


@pytest.fixture(scope="module")
def undisturbed(ray_session, tmp_path_factory):
    """The run that every disturbed one must equal, with its folder."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return fuse(config(folder), parts=scripted_parts(log_steps=True)), folder


def assert_same(summary, folder, undisturbed):
    other, its_folder = undisturbed
    assert summary.tree_digest == other.tree_digest
    stores = [RehearsalStore(RunDir.open(where)) for where in (folder, its_folder)]
    assert [stores[0].read(round) for round in range(3)] == [stores[1].read(round) for round in range(3)]
    assert [sorted(step) for step in trained_rows(folder)] == [sorted(step) for step in trained_rows(its_folder)]


def test_what_was_decoded_for_rehearsal_is_counted_and_its_time_told(undisturbed):
    summary, folder = undisturbed
    store = RehearsalStore(RunDir.open(folder))
    for r in summary.rounds:
        assert r.tokens["rehearsal"] == sum(row.num_tokens for row in store.read(r.round)) > 0
    assert 0 < summary.seconds["rehearsal"] < summary.seconds["total"]


def test_tokens_decoded_for_rehearsal_count_for_the_stop_rule(tmp_path, undisturbed):
    first = undisturbed[0].rounds[0].tokens
    rule = {"rounds": 3, "decoded_tokens": sum(first.values()) - first["rehearsal"] + 1}
    summary = fuse(config(tmp_path / "run", stop=rule), parts=scripted_parts())
    assert len(summary.rounds) == 1 and "decoded_tokens" in summary.stop_reason


@pytest.mark.parametrize("model", ["ada", long(15, "target")])
def test_an_engine_that_dies_of_a_rehearsals_requests_is_replaced_and_the_rows_are_the_same(
    tmp_path, undisturbed, monkeypatch, model
):
    faults, ask = Faults(str(tmp_path / "faults")), Rehearsals.ask

    async def ask_and_die(self, round):
        if round == 1:  # while the other rounds are harvested with a version that is not 0
            faults.arm(f"die-{model}")
        return await ask(self, round)

    monkeypatch.setattr(Rehearsals, "ask", ask_and_die)
    folder = tmp_path / "run"
    summary = fuse(config(folder), parts=scripted_parts(log_steps=True, faults=faults))
    assert not list((tmp_path / "faults").iterdir()), "nobody died"
    assert_same(summary, folder, undisturbed)


@pytest.mark.long(15)
def test_a_tree_manager_that_dies_before_a_rehearsals_leaves_are_drawn_draws_the_same(
    tmp_path, undisturbed, monkeypatch
):
    managers, start, ask = [], components.start_tree_manager, Rehearsals.ask

    def recorded(*args, **options):
        managers.append(start(*args, **options))
        return managers[-1]

    async def ask_and_die(self, round):
        if round == 1:
            ray.kill(managers[0], no_restart=False)
        return await ask(self, round)

    monkeypatch.setattr(components, "start_tree_manager", recorded)
    monkeypatch.setattr(Rehearsals, "ask", ask_and_die)
    folder = tmp_path / "run"
    assert_same(fuse(config(folder), parts=scripted_parts(log_steps=True)), folder, undisturbed)


@pytest.mark.long(15)
def test_rehearsal_on_shared_cards_belongs_to_the_harvests_turn(tmp_path):
    (tmp_path / "card").mkdir()
    card = SharedCard(str(tmp_path / "card"))
    settings = {"placement": "colocate", "harvest": {"max_tasks_in_flight": 4, "max_staleness": 0}}
    summary = fuse(config(tmp_path / "run", **settings), parts=scripted_parts(step_s=0.1, card=card))
    assert card.faults() == []
    store = RehearsalStore(RunDir.open(tmp_path / "run"))
    assert [r.training_rows for r in summary.rounds] == [24 + len(store.kept_ids(round, 8)) for round in range(3)]
    assert [r.weights_version for r in summary.rounds] == [0, 1, 2]


def test_a_run_that_ended_before_a_rounds_rehearsal_asks_for_it_when_it_goes_on(tmp_path, undisturbed, monkeypatch):
    whole, whole_folder = undisturbed
    folder, ask = tmp_path / "run", Rehearsals.ask

    async def fails(self, round):
        if round == 1:
            raise BohdiError("scripted: the driver ends here")
        return await ask(self, round)

    monkeypatch.setattr(Rehearsals, "ask", fails)
    with pytest.raises(BohdiError, match="the driver ends here"):
        fuse(config(folder), parts=scripted_parts(log_steps=True))
    monkeypatch.setattr(Rehearsals, "ask", ask)
    summary = fuse(config(folder), resume=True, parts=scripted_parts(log_steps=True))
    assert summary.tree_digest == whole.tree_digest
    stores = [RehearsalStore(RunDir.open(where)) for where in (folder, whole_folder)]
    assert [stores[0].read(round) for round in range(3)] == [stores[1].read(round) for round in range(3)]
    assert Counter(map(tuple, trained_rows(folder))) == Counter(map(tuple, trained_rows(whole_folder)))
    assert [r.tokens for r in summary.rounds] == [r.tokens for r in whole.rounds]
    assert [r.training_rows for r in summary.rounds] == [r.training_rows for r in whole.rounds]
