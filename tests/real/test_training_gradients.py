"""One global step has one gradient, however it is cut: over ranks, micro-batches, packs, with any ZeRO stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_support import of_rank_0, tiny_config

from bohdi_ray.training.weights.versions import publish_base

DEADLINE_S = 150
NUM_ROWS = 7  # odd, so that two ranks have different numbers of rows and of micro-batches


def gradients(cases: list[dict], world_size: int, folder: Path, **environment: str) -> list[dict]:
    """What `training_ranks.py` found on `world_size` processes."""
    return of_rank_0("training_ranks.py", world_size, DEADLINE_S, cases, folder, **environment)


@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_step_has_the_same_gradient_for_any_ranks_micro_batches_packing_and_stage(tiny_model_dir, tmp_path):
    model_dir = tiny_model_dir("llama", tie_word_embeddings=True)
    base = str(tmp_path / "base")
    publish_base(tiny_config(model_dir).target, base)
    variants = [(2, 1, False), (2, 2, False), (2, 4, False), (2, 2, True), (1, 2, True), (3, 2, False)]
    cases = [
        case_of(model_dir, base, {"stage": stage}, micro_batch_size=micro_batch_size, packing=packing)
        for stage, micro_batch_size, packing in variants
    ]
    results = gradients(cases, 1, tmp_path) + gradients(cases, 2, tmp_path)
    wanted = results[0]
    scale = max(g.abs().max().item() for g in wanted["gradients"].values())
    assert scale > 1e-3
    for case, result in zip(variants + variants, results, strict=True):
        assert_equal(result, wanted, scale, str(case))


@pytest.mark.long(100)
@pytest.mark.timeout(2 * DEADLINE_S)
def test_with_the_optimizer_offloaded_too_even_where_a_compilation_was_killed(tiny_model_dir, tmp_path):
    """Two ranks need DeepSpeed's kernel at the same time, and a dead process has left torch's lock there."""
    model_dir = tiny_model_dir("llama", tie_word_embeddings=True)
    base = str(tmp_path / "base")
    publish_base(tiny_config(model_dir).target, base)
    kernels = tmp_path / "kernels"
    (kernels / "cpu_adam").mkdir(parents=True)
    (kernels / "cpu_adam" / "lock").touch()
    plain = gradients([case_of(model_dir, base, {"stage": 2})], 1, tmp_path)[0]
    zero = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    offloaded = gradients([case_of(model_dir, base, zero)], 2, tmp_path, TORCH_EXTENSIONS_DIR=str(kernels))[0]
    assert_equal(offloaded, plain, max(g.abs().max().item() for g in plain["gradients"].values()), "offloaded")
    assert sorted(path.name for path in kernels.iterdir()) == ["cpu_adam"], "another kernel was compiled"
    assert not (kernels / "cpu_adam" / "lock").exists()


@pytest.mark.long(20)
@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_learner_that_left_its_card_goes_on_as_if_it_had_not(tiny_model_dir, tmp_path):
    """On a CPU the states stay where they are, but are taken apart and put together again all the same."""
    import torch

    model_dir = tiny_model_dir("llama", tie_word_embeddings=True)
    base = str(tmp_path / "base")
    publish_base(tiny_config(model_dir).target, base)
    variants = [(dtype, before) for dtype in ("bfloat16", "float32") for before in ("step", "turn")]
    cases = [case_of(model_dir, base, {"stage": 2}, dtype=dtype) | {"before": before} for dtype, before in variants]
    results = gradients(cases, 2, tmp_path)
    for stayed, turned in (results[:2], results[2:]):
        assert turned["loss"] == stayed["loss"] and turned["grad_norm"] == stayed["grad_norm"]
        assert all(torch.equal(turned["gradients"][name], stayed["gradients"][name]) for name in stayed["gradients"])


def case_of(model_dir: Path, base: str, zero: dict, **training: Any) -> dict:
    """One case of training_ranks.py."""
    fields = {"dtype": "float32", "gradient_clipping": 0.0, "deepspeed": {"zero_optimization": zero}}
    config = tiny_config(model_dir, **fields | training)
    return {"base": base, "config": config.model_dump(mode="json"), "rows": NUM_ROWS}


def assert_equal(result: dict, wanted: dict, scale: float, case: str) -> None:
    import torch

    assert result["loss"] == pytest.approx(wanted["loss"], rel=1e-5), case
    assert result["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4), case
    assert result["gradients"].keys() == wanted["gradients"].keys()
    for name, gradient in result["gradients"].items():
        torch.testing.assert_close(
            gradient, wanted["gradients"][name], rtol=1e-3, atol=1e-5 * scale, msg=f"{case} {name}"
        )
