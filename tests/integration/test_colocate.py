"""Whole fusions whose scripted engines and trainer take turns on one card, which tells when both sides were on it."""

import json

import pytest
from long_cases import long
from scripted_parts import Faults, scripted_config, scripted_parts
from shared_card import SharedCard

from bohdi_ray.errors import TrainingFailed
from bohdi_ray.fusion import fuse

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(300)]

SMALL = {
    "placement": "colocate",
    "meditation": {"steps": 2, "walks_per_step": 6},
    "stop": {"rounds": 2},
    "harvest": {"max_tasks_in_flight": 4},
}


@pytest.fixture
def card(tmp_path):
    (tmp_path / "card").mkdir()
    return SharedCard(str(tmp_path / "card"))


@pytest.fixture
def faults(tmp_path):
    (tmp_path / "faults").mkdir()
    return Faults(str(tmp_path / "faults"))


@pytest.fixture(scope="module")
def separate(ray_session, tmp_path_factory):
    """The run that every colocated one must equal."""
    folder = str(tmp_path_factory.mktemp("separate") / "run")
    harvest = {**SMALL["harvest"], "max_staleness": 0}
    return fuse(
        scripted_config(folder, **{**SMALL, "placement": "separate", "harvest": harvest}), parts=scripted_parts()
    )


def run(folder, card, faults, step_s=0.2, resume=False, **changes):
    config = scripted_config(str(folder / "run"), **{**SMALL, **changes})
    return fuse(config, parts=scripted_parts(step_s=step_s, faults=faults, card=card), resume=resume)


def assert_same(summary, separate):
    assert summary.tree_digest == separate.tree_digest
    assert [(r.weights_version, r.rewards) for r in summary.rounds] == [
        (r.weights_version, r.rewards) for r in separate.rounds
    ]


def records(folder, kind):
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def time_sharing(card):
    """The sides in the order in which they were on the card."""
    sides = ["training" if event.startswith("trainer") else "harvest" for event in card.events()]
    return [side for i, side in enumerate(sides) if i == 0 or sides[i - 1] != side]


def test_harvest_and_training_are_never_on_the_card_together_and_nothing_else_changes(tmp_path, card, faults, separate):
    summary = run(tmp_path, card, faults)
    assert card.faults() == []
    assert time_sharing(card) == ["harvest", "training", "harvest", "training"]
    assert_same(summary, separate)
    switches = records(tmp_path, "turn")
    assert [record["to"] for record in switches] == ["training", "harvest", "training"]
    assert switches[1]["seconds"] > 0.4  # the trainer takes its time to leave


@pytest.mark.parametrize("model", ["ada", long(12, "target")])
def test_an_engine_that_dies_in_its_sleep_is_replaced_in_the_harvests_next_turn(
    tmp_path, card, faults, separate, model
):
    """The pools look every 2 s, and the round is trained for longer than that."""
    faults.arm(f"die-asleep-{model}")
    assert_same(run(tmp_path, card, faults, step_s=3), separate)
    assert card.faults() == []
    assert records(tmp_path, "engines")[-1]["num_replaced"] == 1
    engines = {event for event in card.events() if event.startswith(model) and event.endswith("enters")}
    assert len(engines) == 2


@pytest.mark.parametrize("fault", [long(35, "sleepless-ada"), long(15, "oversleep-target")])
def test_an_engine_that_does_not_follow_in_time_is_replaced(tmp_path, card, faults, separate, fault):
    faults.arm(fault)
    assert_same(run(tmp_path, card, faults, step_s=3, deadlines={"weights_s": 8}), separate)
    assert card.faults() == []
    assert records(tmp_path, "engines")[-1]["num_replaced"] == 1


def test_a_resumed_run_begins_with_the_trainer_where_rounds_are_left_to_train(tmp_path, card, faults, separate):
    faults.arm("train")
    with pytest.raises(TrainingFailed):
        run(tmp_path, card, faults)
    died = len(card.events())
    assert_same(run(tmp_path, card, faults, resume=True), separate)
    assert card.faults() == []
    assert card.events()[died:][0] == "trainer enters"
    assert time_sharing(card)[1:] == ["training", "harvest", "training"]
