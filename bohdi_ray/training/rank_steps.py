"""The steps of one rank as the train loop takes them, and the held-out examples that it keeps from round to round."""

from __future__ import annotations

from collections.abc import Iterator

import ray.train

from bohdi_ray.training.batches.encoding import EncodedExample, Rejected
from bohdi_ray.training.feed.dataset import steps_of
from bohdi_ray.training.feed.encoded_step import EncodedStep
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.learner import Learner


def read_steps(rank: int) -> Iterator[EncodedStep | Ended]:
    """This rank's steps in order, then Ended."""
    shard = ray.train.get_dataset_shard(f"train_{rank}")
    return steps_of(shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def with_reference(
    steps: Iterator[EncodedStep | Ended], learner: Learner, heldout: Heldout
) -> Iterator[EncodedStep | Ended]:
    """The same steps; where the objective's reference is the weights that a round begins with, a round is read whole
    and its rows are scored before its first step."""
    if learner.objective.reference is None:
        yield from steps
        return
    of_round: list[EncodedStep] = []
    for step in steps:
        if isinstance(step, Ended):
            yield step
            return
        of_round.append(step)
        if step.last_of_round:
            examples = [example for one in of_round for example in one.usable]
            learner.score_reference([*examples, *heldout.of(step)])
            yield from of_round
            of_round = []
            learner.reference.clear()


class Heldout:
    """The held-out examples that this rank measures: a step brings those that are new."""

    def __init__(self) -> None:
        self._known: dict[str, EncodedExample | Rejected] = {}

    def of(self, step: EncodedStep) -> list[EncodedExample]:
        """Those to measure after the last step of a round."""
        self._known |= {one.example_id: one for one in step.new_heldout}
        self._known = {one: self._known[one] for one in step.heldout}
        return [one for one in self._known.values() if isinstance(one, EncodedExample)]
