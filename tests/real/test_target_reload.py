"""Every kind of LM head: an engine started on version 0 serves version 1 after a reload in place."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_support import Running, vllm_model
from target_support import published, trained
from tiny_families import FAMILIES, build_family

# A head that vLLM ties to the embedding; none at all; one over transformers' own classes.
KINDS = ("gemma-3-text", "command-r7b", "smollm3")
# What vLLM's CPU build cannot run, whatever the weights.
UNPROVED_ON_CPU: dict[str, str] = {}


def families():
    for name in FAMILIES:
        marks = [] if name in KINDS else [pytest.mark.long]
        if name in UNPROVED_ON_CPU:
            marks.append(pytest.mark.skip(reason=f"unproved here: {UNPROVED_ON_CPU[name]}"))
        yield pytest.param(name, marks=marks)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", families())
def test_an_engine_serves_what_was_trained_after_a_reload_in_place(name, tmp_path: Path):
    source = build_family(name, tmp_path / "model")
    weights = published(source, tmp_path / "base")
    trained(weights, tmp_path / "base", tmp_path / "round-0")
    engine = Running(vllm_model(weights), weights)
    try:
        assert engine.report.mean_abs_difference < 0.02
        report = engine.do(engine.engine.load_weights(1, str(tmp_path / "round-0" / "weights")))
        assert report.mean_abs_difference < 0.02 < report.trainer_change
        assert report.progress == pytest.approx(1, abs=0.1)
    finally:
        engine.close()
