"""StepEncoder: reads a step's examples by id and encodes them for the target. Runs in a Ray Data actor of its own.

It holds the target's tokenizer and a cache of recently read texts; its objective decides how an example is encoded.
Imports neither torch nor vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.addresses import above, below
from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.examples.store import ExampleStore
from bohdi_ray.run.node_files import plain_weights
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.training.batches.encoding import Encoder
from bohdi_ray.training.feed.encoded_step import lines_of_step
from bohdi_ray.training.feed.steps import GlobalStep
from bohdi_ray.training.objectives import OBJECTIVES
from bohdi_ray.training.objectives.objective import Objective, encode_one
from bohdi_ray.training.weights.checkpoints import version_dir
from bohdi_ray.training.weights.versions import WEIGHTS


@dataclass(frozen=True)
class EncoderSpec:
    """The arguments of an encoder; sent to the actor."""

    config: FusionConfig
    checkpoints_dir: str
    objective: Objective | None = None  # default: the configured one


def encoder_of(config: FusionConfig, tokenizer: Any) -> Encoder:
    """The encoder of the target's texts, as used by training and evaluation."""
    variables = config.target.sampling_of("answer").chat_template_kwargs
    training = config.training
    return Encoder(tokenizer, config.target.system_prompt, training.max_length, variables, training.reasoning)


class StepEncoder:
    """One instance per rank and start of the workers."""

    def __init__(self, spec: EncoderSpec):
        self._spec, self._stage = spec, -1
        self._store = ExampleStore(RunDir(above(spec.checkpoints_dir)), spec.config.training.reasoning == "keep")
        with plain_weights(below(version_dir(spec.checkpoints_dir, 0), WEIGHTS)) as folder:
            self._tokenizer = load_tokenizer(folder)
        self._enter_stage(0)

    def encode(self, step: GlobalStep) -> pa.Table:
        """The step's token rows. Raises RunDirError where an example cannot be read."""
        self._enter_stage(step.round)
        examples = self._store.read([*step.rows, *step.new_heldout])
        encoded = [encode_one(self._objective, self._encoder, example) for example in examples]
        return lines_of_step(step, encoded[: len(step.rows)], encoded[len(step.rows) :])

    def _enter_stage(self, round: int) -> None:
        """Encodes as the stage of this round does."""
        if (stage := self._spec.config.training.stage(round)) != self._stage:
            config, self._stage = self._spec.config.at(round), stage
            self._objective = self._spec.objective or OBJECTIVES[config.training.objective.kind]
            self._encoder = encoder_of(config, self._tokenizer)
