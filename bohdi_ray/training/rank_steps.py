"""The steps of one rank as the train loop takes them, the learner of their stage, and the held-out examples that are
kept from round to round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import ray.train

from bohdi_ray.config import TrainingConfig
from bohdi_ray.training.batches.encoding import EncodedExample, Rejected
from bohdi_ray.training.feed.dataset import steps_of
from bohdi_ray.training.feed.encoded_step import EncodedStep
from bohdi_ray.training.feed.queue import Ended
from bohdi_ray.training.learner import Learner


def read_steps(rank: int) -> Iterator[EncodedStep | Ended]:
    """This rank's steps in order, then Ended."""
    shard = ray.train.get_dataset_shard(f"train_{rank}")
    return steps_of(shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


class StageLearner:
    """The learner of the stage that is trained: each stage begins with another, from the weights of the one before."""

    def __init__(self, training: TrainingConfig, learner: Learner, round: int, start: Callable[[int], Learner]):
        """`learner` is that of the stage of `round`; `start` makes one that begins with a round's stage."""
        self._training, self._learner, self._stage, self._start = training, learner, training.stage(round), start
        self.seconds = 0.0  # spent on the changes so far

    def of(self, round: int) -> Learner:
        """That of a round's stage; the one of the stage before is released. Every rank must call."""
        if (stage := self._training.stage(round)) != self._stage:
            began = time.perf_counter()
            self._learner.release()
            self._learner, self._stage = self._start(round), stage
            self.seconds += time.perf_counter() - began
        return self._learner


def with_reference(
    steps: Iterator[EncodedStep | Ended], learners: StageLearner, heldout: Heldout
) -> Iterator[EncodedStep | Ended]:
    """The same steps; where the objective's reference is the weights that a round begins with, a round is read whole
    and its rows are scored before its first step."""
    of_round: list[EncodedStep] = []
    for step in steps:
        if isinstance(step, Ended):
            yield step
            return
        learner = learners.of(step.round)
        if learner.objective.reference is None:
            yield step
            continue
        of_round.append(step)
        if step.last_of_round:
            examples = [example for one in of_round for example in one.usable]
            learner.score_reference([*examples, *heldout.of(step)])
            yield from of_round
            of_round = []
            learner.reference.clear()


class Heldout:
    """The held-out examples that this rank evaluates; a step delivers only the new ones."""

    def __init__(self) -> None:
        self._known: dict[str, EncodedExample | Rejected] = {}

    def of(self, step: EncodedStep) -> list[EncodedExample]:
        """The examples to evaluate after the last step of a round."""
        self._known |= {one.example_id: one for one in step.new_heldout}
        self._known = {one: self._known[one] for one in step.heldout}
        return [one for one in self._known.values() if isinstance(one, EncodedExample)]
