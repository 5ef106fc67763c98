"""`enlightenment.rows: each_once`: every new sample once an epoch, in an order that follows from the seed."""

from __future__ import annotations

import pytest
from scripted_fusion import make_config

from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.records import Outcome, Ticket
from bohdi_ray.tree.manager import TreeManager

SEEDS = {"Science": ["Physics", "Chemistry"]}
NUM_WALKS = 24


def outcome(ticket: Ticket) -> Outcome:
    """One in four fails, one in four is held out."""
    if ticket.index % 4 == 3:
        return Outcome(ticket.ticket_id, failure="no_valid_question")
    heldout = ticket.index % 4 == 2
    return Outcome(ticket.ticket_id, reward=ticket.index % 2, question_hash=ticket.ticket_id, heldout=heldout)


def closed_rounds(num_rounds: int, seed: int = 0, epochs: int = 1) -> tuple[list[tuple[str, ...]], list[set[str]]]:
    """The rows of each round, and the trainable samples of each."""
    config = make_config(
        seed=seed,
        enlightenment={"rows": "each_once", "epochs": epochs},
        meditation={"steps": 1, "walks_per_step": NUM_WALKS},
        harvest={"step_lag": 0},
        tree={"depth": 2, "max_children": (1, 2)},
    )
    manager, rows, made = TreeManager(config, SEEDS), [], []
    for round in range(num_rounds):
        outcomes = manager.screen(0, [outcome(ticket) for ticket in manager.work(0).tickets])
        manager.commit_step(0, outcomes, "part")
        made.append({o.ticket_id for o in outcomes if o.failure is None and not o.heldout})
        rows.append(manager.close_round(round + 1, 0).row_sample_ids)
    return rows, made


def test_a_round_trains_on_each_of_its_samples_once_and_on_no_other():
    rows, made = closed_rounds(3)
    assert [sorted(one) for one in rows] == [sorted(one) for one in made]
    assert all(len(one) == NUM_WALKS // 2 for one in rows)
    assert all(list(one) != sorted(one) for one in rows), "in an order of its own"


def test_the_order_follows_from_the_seed():
    assert closed_rounds(2)[0] == closed_rounds(2)[0] != closed_rounds(2, seed=1)[0]


def test_every_epoch_has_all_samples_in_another_order():
    (rows,), (made,) = closed_rounds(1, epochs=3)
    epochs = [rows[start : start + len(made)] for start in range(0, len(rows), len(made))]
    assert [set(epoch) for epoch in epochs] == [made] * 3 and len(set(epochs)) == 3


def test_the_number_of_steps_has_room_for_a_round_without_a_failure():
    config = make_config(enlightenment={"rows": "each_once", "epochs": 2}, meditation={"steps": 2, "walks_per_step": 5})
    assert config.rows_per_round == 20


def test_epochs_without_each_once_are_refused():
    model = {"name": "a", "model": "org/a"}
    plain = {"run_dir": "x", "sources": [model], "target": {**model, "name": "t"}, "enlightenment": {"epochs": 2}}
    with pytest.raises(ConfigErrors, match="epochs belongs to rows: each_once"):
        parse_config(plain)
