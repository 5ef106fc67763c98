"""AdamW afresh every round, packs that are kept apart, and a start that proves the model, under real DeepSpeed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_families import FAMILIES, build_family
from training_support import run_ranks, tiny_config

from bohdi_ray.engines.families.family import PADDED_NOTE
from bohdi_ray.engines.families.table import FAMILIES as KNOWN_FAMILIES
from bohdi_ray.training.weights.versions import publish_base

DEADLINE_S = 600
INDEPENDENT = True  # each may be in another part of `make test-long`


def run_checks(folder: Path, world_size: int, *checks: str) -> list:
    """Runs the checks on `world_size` processes and returns what rank 0 wrote."""
    run_ranks("training_checks.py", world_size, DEADLINE_S, folder, *checks)
    return [json.loads((folder / f"{check}.json").read_text()) for check in checks]


@pytest.fixture
def folder(tiny_model_dir, tmp_path):
    model = tiny_model_dir("llama", tie_word_embeddings=True)
    shutil.copytree(model, tmp_path / "model")
    publish_base(tiny_config(model).target, str(tmp_path / "base"))
    return tmp_path


def assert_new_moments(results: list) -> None:
    for result in results:
        first, second = result["held"]
        assert second == pytest.approx(first, rel=0.05), result
        assert result["wrong"] < 0.02, result
        assert result["loads"] < 1e-3, result


@pytest.mark.timeout(2 * DEADLINE_S)
def test_one_rank(folder):
    """A round that starts AdamW afresh holds as much as the first and steps as a new AdamW does, at every ZeRO stage;
    rows that share a line have the losses they have alone; a start that computes something else is refused; under
    ZeRO-3 a model has the rotary frequencies and scales of a plainly loaded one."""
    moments, packing, start, buffers = run_checks(folder, 1, "moments", "packing", "start_probe", "buffers")
    assert_new_moments(moments)
    alone = packing["losses"]["alone"]
    for name, losses in packing["losses"].items():
        assert losses == pytest.approx(alone, rel=1e-4), name
    assert packing["layouts"] == {
        "alone": [1, False, 128],
        "one line": [1, True, 128],
        "two lines": [1, True, 256],
        "sdpa": [2, True, 128],
    }
    for stage, (field, said) in start.items():
        assert field == "training.attn_implementation" and f"ZeRO-{stage}" in said and "0.3" in said
    for name, (there, _, restored) in buffers.items():
        assert there and restored == [], name
    assert any("inv_freq" in buffer for buffer in buffers["default"][1]), (
        "DeepSpeed no longer rounds it: see buffers.py"
    )


PADDED = {name for family in KNOWN_FAMILIES if PADDED_NOTE in family.notes for name in family.tiny}


@pytest.mark.timeout(2 * DEADLINE_S)
@pytest.mark.long(240)
def test_every_family_trains_on_two_ranks_with_its_rows_kept_apart(tmp_path):
    for name in FAMILIES:
        here = tmp_path / "families" / name
        publish_base(tiny_config(build_family(name, here / "model")).target, str(here / "base"))
    (results,) = run_checks(tmp_path, 2, "families")
    assert set(results) == set(FAMILIES)
    for name, result in results.items():
        assert result["together"] == pytest.approx(result["alone"], rel=1e-4), name
        assert result["steps"][0] > result["steps"][1] > result["steps"][2], name
        assert result["stage 3"] == pytest.approx(result["steps"][0], rel=1e-4), name
    assert {name for name, result in results.items() if not result["packing"]} == PADDED


@pytest.mark.timeout(2 * DEADLINE_S)
@pytest.mark.long(300)
def test_two_ranks(folder):
    assert_new_moments(run_checks(folder, 2, "moments")[0])
