"""Which rounds are refused for their rows, and what the queue and the user are told."""

from __future__ import annotations

import pickle

import pytest

from bohdi_ray.config import TrainingConfig
from bohdi_ray.training.feed.queue import SampleQueue
from bohdi_ray.training.feed.rejection import refusal


@pytest.mark.parametrize(
    ("fraction", "num_rows", "num_rejected", "refused"),
    [
        (0.5, 24, 24, True),
        (0.5, 24, 13, True),
        (0.5, 24, 12, False),
        (0.0, 24, 1, True),
        (0.0, 24, 0, False),
        (1.0, 24, 24, False),  # asked for
        (0.5, 0, 0, False),  # a round without rows is another matter
    ],
)
def test_a_round_is_refused_when_a_larger_share_of_its_rows_is_rejected(fraction, num_rows, num_rejected, refused):
    training = TrainingConfig(max_rejected_fraction=fraction)
    rejected = {"prompt_too_long": num_rejected} if num_rejected else {}
    assert (refusal(training, 3, num_rows, rejected) is not None) == refused


def test_the_refusal_names_reasons_setting_and_remedies():
    training = TrainingConfig(max_length=48)
    refused = refusal(training, 3, 24, {"no_answer_tokens": 2, "prompt_too_long": 18, "new": 1})
    assert refused is not None
    text = pickle.loads(pickle.dumps(refused)).text()
    assert "21 of 24 training rows of round 3 were rejected (18 prompt_too_long, 2 no_answer_tokens, 1 new)" in text
    assert "training.max_rejected_fraction = 0.5" in text and "Raise training.max_length (48)" in text
    assert "bohdi resume" in text
    template = refusal(training, 0, 2, {"not_prefix_stable": 2})
    assert template is not None and "target.system_prompt" in template.text()


def test_the_queue_carries_the_refusal_to_the_driver():
    queue, refused = (
        SampleQueue(TrainingConfig()),
        refusal(TrainingConfig(), 0, 4, {"tokenizer_error": 4}),
    )
    assert queue.status().refused is None
    queue.round_refused(refused)
    assert queue.status().refused is refused and queue.status().last_committed_round == -1
