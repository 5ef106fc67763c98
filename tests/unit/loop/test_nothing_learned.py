"""When a run that learns nothing ends as failed, and what it says."""

from __future__ import annotations

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.nothing_learned import check_rounds, empty_rounds, remedy, why_nothing_was_learned
from bohdi_ray.errors import NothingLearned
from bohdi_ray.observe.console import round_lines
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.run.filesystem import place_of
from bohdi_ray.run.run_dir import RunDir, weights_dir
from bohdi_ray.run.same_weights import same_weights

LOST = {"no_valid_name": 14, "sources_failed": 2}


def config(**stop) -> FusionConfig:
    sources = [{"kind": "vllm", "name": "ada", "model": "./none"}]
    target = {"name": "target", "model": "./none"}
    return FusionConfig.model_validate({"run_dir": "r", "sources": sources, "target": target, "stop": stop})


def a_round(number: int, accepted: int = 0, rows: int = 0, rejected: dict[str, int] | None = None) -> RoundSummary:
    abandoned = {} if accepted else LOST
    seconds = {"harvest": 3.0, "training": 2.0}
    return RoundSummary(
        number,
        0,
        accepted,
        accepted,
        abandoned=abandoned,
        training_rows=rows,
        rejected_rows=rejected or {},
        seconds=seconds,
    )


# Rounds without a sample.


def test_the_first_round_without_a_sample_is_told_and_the_second_in_a_row_ends_the_run(tmp_path):
    run, rounds = RunDir(tmp_path), [a_round(0, 5), a_round(1)]
    check_rounds(config(), run, rounds)
    with pytest.raises(NothingLearned) as failed:
        check_rounds(config(), run, [*rounds, a_round(2)])
    text = str(failed.value)
    assert "rounds 1 to 2 gave no sample; lost: 28 no_valid_name, 4 sources_failed" in text
    assert "no names of domains" in text and f"bohdi resume {tmp_path}" in text and "stop.empty_rounds" in text


def test_rounds_count_in_a_row_and_as_many_as_the_setting_says(tmp_path):
    run = RunDir(tmp_path)
    check_rounds(config(), run, [a_round(0), a_round(1, 1), a_round(2)])
    check_rounds(config(empty_rounds=3), run, [a_round(0), a_round(1)])
    with pytest.raises(NothingLearned, match="round 0 gave no sample"):
        check_rounds(config(empty_rounds=1), run, [a_round(0)])
    assert empty_rounds([]) == 0


def test_the_remedy_speaks_of_the_reasons_that_most_losses_have():
    from collections import Counter

    assert "min_question_chars" in remedy(Counter({"invalid_question": 9, "no_valid_name": 1}))
    assert "names of domains" not in remedy(Counter({"invalid_question": 9, "no_valid_name": 1}))
    assert remedy(Counter({"never_heard_of": 1})).startswith("See ")
    assert remedy(Counter())


# What the console says.


def test_a_round_without_a_sample_counts_its_lost_walks():
    line = round_lines.harvested(a_round(3))
    assert line.startswith("round 3: NO SAMPLE, 0 of 16 walks gave a sample (lost: 14 no_valid_name, 2 sources_failed)")
    assert "5 of 5 tickets gave a sample (lost: none)" in round_lines.harvested(a_round(3, 5))


def test_a_trained_round_tells_what_was_rejected_and_never_calls_nothing_training():
    whole = round_lines.trained(a_round(0, 5, 24), {"loss": 1.25})
    assert whole == "round 0: trained to weights version 1, loss 1.250"
    some = round_lines.trained(a_round(0, 5, 24, {"prompt_too_long": 6}), {"loss": 1.25, "num_heldout_rejected": 2})
    assert some.endswith("; 6 of 24 rows REJECTED (6 prompt_too_long); 2 held-out rows could not be measured")
    none = round_lines.trained(a_round(0, 5, 24, {"prompt_too_long": 24}), {"loss": None})
    assert "NOTHING could be trained on, weights version 1 is version 0 unchanged" in none and "trained to" not in none
    assert "NOTHING to train on" in round_lines.trained(a_round(1), {})


def test_rows_trained_are_those_that_were_trained_on():
    assert a_round(0, 5, 24, {"prompt_too_long": 6}).trained_rows == 18
    assert RoundSummary(0, 0, 5, 5, training_rows=24, seconds={"harvest": 1.0}).trained_rows == 0


# The end of a run.


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "run")
    for version, data in ((0, b"a" * 100), (1, b"a" * 100), (2, b"a" * 99 + b"b"), (3, b"a" * 101)):
        run.write_bytes(f"{weights_dir(version)}/model.safetensors", data)
        run.write_bytes(f"{weights_dir(version)}/config.json", str(version).encode())
    return run


def test_weights_are_the_same_when_their_files_are(run):
    base = run.place(weights_dir(0))
    same = [version for version in range(4) if same_weights(base, run.place(weights_dir(version)))]
    assert same == [0, 1]
    assert not same_weights(place_of(run.path("nowhere")), place_of(run.path("nowhere"))), "nothing is no weights"


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([a_round(0)], "No round had a row to train on; lost: 14 no_valid_name, 2 sources_failed. What the sources"),
        ([a_round(0, 5, 24, {"not_prefix_stable": 24})], r"All training rows were rejected \(24 not_prefix_stable\)"),
        ([a_round(0, 5, 24)], "raise training.learning_rate"),
    ],
)
def test_a_run_that_ends_with_the_target_as_it_was_says_why(run, rounds, words):
    import re

    why = why_nothing_was_learned(run, rounds, 1)
    assert why is not None and re.search(words, why), why
    assert "RUN/target is not written" in why and f"bohdi resume {run.location} stop.rounds=2" in why
    assert why_nothing_was_learned(run, rounds, 2) is None
    assert why_nothing_was_learned(run, [], 0) is not None, "no round was trained"
