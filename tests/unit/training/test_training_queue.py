"""SampleQueue: idempotent takes, refused attempts, conservation of rows, freeing only behind a COMMIT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import TrainingConfig
from bohdi_ray.errors import BohdiError
from bohdi_ray.training.feed.queue import Ended, NotYet, SampleQueue, StaleAttempt
from bohdi_ray.training.feed.steps import GlobalStep
from bohdi_ray.training.weights.checkpoints import ResumePoint, RoundState


def batches(rows: int, **settings) -> TrainingConfig:
    return TrainingConfig(global_batch_size=rows, **settings)


def rows(round: int, count: int) -> list[str]:
    return [f"r{round}-{i}" for i in range(count)]


def state(round: int, next_step: int, has_optimizer: bool = True) -> RoundState:
    return RoundState(round, next_step, next_step, round + 1, 1, has_optimizer)


def test_a_take_is_a_look_and_can_be_repeated():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 6))
    first = queue.take(1, 2, 0, 0)
    assert isinstance(first, GlobalStep) and first.rows == ("r0-0", "r0-2")
    assert queue.take(1, 2, 0, 0) == first
    assert queue.take(1, 2, 1, 0).rows == ("r0-1",)


def test_an_earlier_attempt_is_refused_once_a_newer_one_asked():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 2))
    queue.take(1, 1, 0, 0)
    queue.begin(2)
    with pytest.raises(StaleAttempt):
        queue.take(1, 1, 0, 0)
    assert isinstance(queue.take(2, 1, 0, 0), GlobalStep)


def test_a_step_of_a_later_round_is_not_yet_and_after_the_last_round_ended():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 4))
    assert isinstance(queue.take(1, 1, 0, 1), NotYet)
    queue.finish(2)
    assert isinstance(queue.take(1, 1, 0, 1), NotYet)
    queue.put_round(1, rows(1, 4))
    assert isinstance(queue.take(1, 1, 0, 1), GlobalStep)
    assert isinstance(queue.take(1, 1, 0, 2), Ended)


def test_stop_lets_all_ranks_end_behind_the_last_step_that_any_of_them_took():
    queue = SampleQueue(batches(2))
    queue.put_round(0, rows(0, 6))
    queue.take(1, 2, 0, 0)
    queue.take(1, 2, 0, 1)  # rank 0 is one step ahead of rank 1
    queue.stop()
    assert isinstance(queue.take(1, 2, 1, 0), GlobalStep)
    assert isinstance(queue.take(1, 2, 1, 1), GlobalStep)
    assert isinstance(queue.take(1, 2, 0, 2), Ended)
    assert isinstance(queue.take(1, 2, 1, 2), Ended)


def test_stop_before_any_take_ends_at_once():
    queue = SampleQueue(batches(2))
    queue.put_round(0, rows(0, 6))
    queue.stop()
    assert isinstance(queue.take(1, 1, 0, 0), Ended)


def test_putting_a_round_again_changes_nothing_and_leaving_one_out_is_refused():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 5))
    before = queue.status()
    queue.put_round(0, rows(0, 5))
    after = queue.status()
    assert (before.num_rows_drawn, before.next_step) == (after.num_rows_drawn, after.next_step) == (5, 2)
    with pytest.raises(BohdiError, match="round 2 was put before round 1"):
        queue.put_round(2, rows(2, 5))


def test_acks_free_nothing_and_a_commit_frees_the_rounds_rows():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 4))
    queue.put_round(1, rows(1, 4))
    queue.take(1, 1, 0, 0)
    queue.ack(1, 0, 0)
    assert queue.status().num_steps_acked == 1
    assert isinstance(queue.take(1, 1, 0, 0), GlobalStep)
    queue.round_committed(state(0, 1), {"loss": 1.0})
    queue.round_committed(state(0, 1), {"loss": 1.0})
    status = queue.status()
    assert (status.num_rows_drawn, status.num_rows_trained, status.num_rows_queued) == (8, 4, 4)
    assert status.last_committed_round == 0 and queue.metrics(0) == {"loss": 1.0}
    with pytest.raises(BohdiError, match="freed"):
        queue.take(1, 1, 0, 0)


def test_a_restart_of_the_workers_goes_on_behind_the_last_commit():
    queue = SampleQueue(batches(4))
    for round in range(3):
        queue.put_round(round, rows(round, 4))
    queue.round_committed(state(0, 1), {})
    assert queue.begin(2).resume == ResumePoint(0, 1, 1, 0)


def test_a_commit_without_optimizer_keeps_its_rows_for_a_replay():
    queue = SampleQueue(batches(4))
    queue.put_round(0, rows(0, 4))
    queue.put_round(1, rows(1, 4))
    queue.round_committed(state(0, 1, has_optimizer=False), {})
    assert queue.begin(2).resume == ResumePoint(-1, 0, 0, last_committed_round=0)
    assert isinstance(queue.take(2, 1, 0, 0), GlobalStep)
    assert queue.status().num_rows_trained == 4
    queue.round_committed(state(1, 2), {})
    assert queue.begin(3).resume == ResumePoint(1, 2, 2, 1)


def test_without_need_of_the_optimizer_every_commit_is_a_point_to_resume_from():
    queue = SampleQueue(batches(4, reset_optimizer=True))
    queue.put_round(0, rows(0, 4))
    queue.round_committed(state(0, 1, has_optimizer=False), {})
    assert queue.begin(2).resume.round == 0


def test_a_restarted_queue_takes_over_a_commit_of_a_round_it_never_saw():
    queue = SampleQueue(batches(4), ResumePoint(0, 1, 1, 0))  # restarted while round 1 was being trained
    queue.round_committed(state(1, 3), {"loss": 2.0})
    status = queue.status()
    assert (status.next_round, status.next_step, status.last_committed_round) == (2, 3, 1)
    queue.put_round(2, rows(2, 4))
    assert queue.take(5, 1, 0, 3).round == 2


def test_resuming_numbers_rounds_and_steps_on():
    queue = SampleQueue(batches(4), ResumePoint(4, 10, 9, 4))
    queue.put_round(3, rows(3, 4))  # trained long ago
    queue.put_round(5, rows(5, 4))
    assert queue.take(1, 1, 0, 10).round == 5
    assert queue.status().num_rows_drawn == 4


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=12), st.integers(1, 5))
def test_rows_drawn_are_rows_trained_plus_rows_queued_whatever_happens(rounds, batch):
    queue = SampleQueue(batches(batch))
    committed = 0
    for round, (count, commits, with_optimizer) in enumerate(rounds):
        queue.put_round(round, rows(round, count))
        if commits:
            steps = [s for s in queue._steps.values() if s.round == committed and s.last_of_round]
            queue.round_committed(state(committed, steps[0].step + 1, with_optimizer), {})
            committed += 1
        status = queue.status()
        assert status.num_rows_drawn == sum(n for n, _, _ in rounds[: round + 1])
        assert status.num_rows_trained == sum(n for n, _, _ in rounds[:committed])


def test_a_commit_within_a_round_moves_where_a_new_start_goes_on_and_frees_no_row():
    queue = SampleQueue(batches(2))
    queue.put_round(0, rows(0, 6))  # steps 0, 1, 2
    assert queue.take(1, 1, 0, 0) and queue.take(1, 1, 0, 1)
    queue.step_committed(ResumePoint(-1, 2, 2, steps_done=2))
    queue.step_committed(ResumePoint(-1, 1, 1, steps_done=1))  # a late word of an earlier one
    assert queue.begin(2).resume == ResumePoint(-1, 2, 2, -1, steps_done=2)
    assert (queue.status().num_rows_queued, queue.status().num_rows_trained) == (6, 0)
    last = queue.take(2, 1, 0, 2)
    assert isinstance(last, GlobalStep) and last.last_of_round and len(last.rows) == 2
    queue.round_committed(state(0, 3), {})
    assert queue.begin(3).resume == ResumePoint(0, 3, 3, 0)


def test_a_queue_that_starts_within_a_round_cuts_it_as_before():
    before, after = (
        SampleQueue(batches(2)),
        SampleQueue(batches(2), ResumePoint(0, 4, 4, 0, steps_done=2)),
    )
    before.put_round(0, rows(0, 4))
    for queue in (before, after):
        queue.put_round(1, rows(1, 5))
    assert after.take(1, 1, 0, 4) == before.take(1, 1, 0, 4)
    assert after.status().next_step == before.status().next_step == 5
    after.round_committed(state(1, 5), {})
    assert after.status().num_rows_trained == 5 and after.status().num_rows_queued == 0


def test_the_trainer_rests_while_every_rank_waits_for_rows_off_its_card():
    queue = SampleQueue(batches(4))
    assert queue.rest(1, 2, 0, 0) is NotYet
    assert not queue.status().rests, "the other rank has not said so"
    assert queue.rest(1, 2, 1, 0) is NotYet
    assert queue.rest(1, 2, 1, 0) is NotYet, "asking again changes nothing"
    assert queue.status().rests
    queue.put_round(0, rows(0, 4))
    assert queue.rest(1, 2, 0, 0) is GlobalStep
    assert not queue.status().rests, "one rank is back on its card"
    assert queue.rest(1, 2, 1, 0) is GlobalStep
    queue.round_committed(state(0, 1), {})
    assert not queue.status().rests, "a committed round says nothing about cards"
    queue.rest(1, 2, 0, 1)
    queue.rest(1, 2, 1, 1)
    assert queue.status().rests
    queue.begin(2)
    assert not queue.status().rests, "the workers start anew"
    queue.rest(2, 1, 0, 1)
    queue.finish(1)
    assert queue.rest(2, 1, 0, 1) is Ended


def test_held_out_examples_are_sent_once_to_each_start_of_the_workers():
    queue = SampleQueue(batches(4))
    for round, ids in enumerate((("a", "b"), ("a", "c"), ("c", "d"))):
        queue.put_round(round, rows(round, 2), ids)
    sent = [queue.take(1, 1, 0, step) for step in range(3)]
    assert [step.heldout for step in sent] == [("a", "b"), ("a", "c"), ("c", "d")]
    assert [step.new_heldout for step in sent] == [("a", "b"), ("c",), ("d",)]
    queue.round_committed(state(0, 1), {})
    queue.begin(2)  # begins behind round 0 and knows nothing of what the start before was sent
    assert [queue.take(2, 1, 0, step).new_heldout for step in (1, 2)] == [("a", "c"), ("d",)]


def test_a_queue_that_was_restarted_sends_them_again():
    queue = SampleQueue(batches(4), ResumePoint(0, 1, 1, 0))
    queue.put_round(1, rows(1, 2), ("a", "b"))
    queue.put_round(2, rows(2, 2), ("a", "b"))
    assert [queue.take(3, 1, 0, step).new_heldout for step in (1, 2)] == [("a", "b"), ()]
