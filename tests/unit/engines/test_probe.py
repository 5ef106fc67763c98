"""The proof of weights, against trainers and engines with noise of a known size."""

import numpy as np
import pytest

from bohdi_ray.engines.probe import PROBE_TURNS, Probe, compare, probe_token_ids, read_probe, write_probe
from bohdi_ray.errors import ConfigError

TOKENS = tuple(tuple(range(i, i + 41)) for i in range(6))
TOLERANCE = 0.15


def probe(version, values):
    return Probe(version, TOKENS, tuple(tuple(float(v) for v in row) for row in values))


def setting(change, noise, seed=0):
    """Log-probabilities before, after a change of that size per token, and an engine's noise of that size."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(-6, 0, (6, 40))
    return before, before + rng.normal(0, change, (6, 40)), rng.normal(0, noise, (6, 40))


def test_the_trainers_own_figures_prove_themselves():
    before, after, _ = setting(0.3, 0)
    report = compare(after, probe(2, after), probe(1, before), TOLERANCE)
    assert report.failure is None and report.mean_abs_difference == 0 and report.progress == pytest.approx(1)


def test_noise_within_tolerance_passes_and_beyond_fails():
    _, after, noise = setting(0.3, 0.05)
    assert compare(after + noise, probe(2, after), None, TOLERANCE).failure is None
    assert "more than 0.15" in compare(after + 10 * noise, probe(2, after), None, TOLERANCE).failure


def test_an_engine_that_kept_the_old_weights_is_found_below_the_tolerance():
    for seed in range(50):
        before, after, noise = setting(0.05, 0.02, seed)
        report = compare(before + noise, probe(2, after), probe(1, before), TOLERANCE)
        assert report.mean_abs_difference < TOLERANCE
        assert "nearer to the version before" in report.failure


def test_an_engine_that_kept_some_layers_of_the_old_weights_is_found_below_the_tolerance():
    for seed in range(50):
        before, after, noise = setting(0.3, 0.02, seed)
        report = compare(0.25 * before + 0.75 * after + noise, probe(2, after), probe(1, before), TOLERANCE)
        assert report.mean_abs_difference < TOLERANCE
        assert "some layers seem to be as in the version before" in report.failure


def test_an_engine_with_the_new_weights_is_never_taken_for_the_old_one():
    for seed in range(200):
        for change in (0.0, 0.001, 0.01, 0.05, 0.3):
            before, after, noise = setting(change, 0.02, seed)
            assert compare(after + noise, probe(2, after), probe(1, before), TOLERANCE).failure is None


def test_a_change_that_drowns_in_the_noise_says_nothing():
    before, after, noise = setting(0.001, 0.02)
    report = compare(before + noise, probe(2, after), probe(1, before), TOLERANCE)
    assert report.progress is None and report.trainer_change is not None and report.failure is None


def test_other_probe_sequences_of_the_version_before_are_not_compared():
    before, after, _ = setting(0.3, 0)
    old = Probe(1, tuple(tuple(t + 1 for t in row) for row in TOKENS), probe(1, before).logprobs)
    assert compare(after, probe(2, after), old, TOLERANCE).trainer_change is None


def test_figures_that_are_not_numbers_fail():
    _, after, _ = setting(0.3, 0)
    assert compare(after * np.nan, probe(2, after), None, TOLERANCE).failure is not None


def test_a_probe_survives_writing(tmp_path):
    before, _, _ = setting(0, 0)
    write_probe(tmp_path / "probe.json", probe(7, before))
    assert read_probe(tmp_path / "probe.json") == probe(7, before)


@pytest.mark.parametrize(
    "text", [None, "", "{}", '{"weights_version": 1, "token_ids": [[1, 2]], "logprobs": [[]]}', "[1]"]
)
def test_a_damaged_probe_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "probe.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_probe(tmp_path / "probe.json")


def test_probe_sequences_fit_the_window():
    sequences = probe_token_ids(lambda question, answer: list(range(len(question + answer))), window=33)
    assert len(sequences) == len(PROBE_TURNS) and {len(s) for s in sequences} == {32}
