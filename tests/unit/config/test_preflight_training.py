"""What `bohdi plan` says and refuses about the target's attention, KV room and disk."""

from __future__ import annotations

import pytest

from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.capacity import Node
from bohdi_ray.preflight import preflight
from bohdi_ray.preflight.plan import plan_text

GEMMA2 = {"model_type": "gemma2", "attn_logit_softcapping": 50.0, "vocab_size": 1000, "intermediate_size": 128}
NODES = [Node("box", num_cpus=16, num_gpus=4, gpu_name="L4", memory_gb=64)]
CPUS = [Node("box", num_cpus=16, num_gpus=0, memory_gb=64)]


@pytest.fixture
def planned(make_model, tmp_path):
    """(fields and rules of what is wrong, the plan's text) for a target of these settings."""

    def plan(config: dict, nodes=NODES, engine=None, **training):
        folder = make_model(config={"max_position_embeddings": 8192} | config)
        fusion = parse_config(
            {
                "run_dir": str(tmp_path / "run"),
                "sources": [{"name": "s", "model": "org/m", "revision": "1"}],
                "target": {"name": "t", "model": str(folder), "engine": engine or {}},
                "training": training,
            }
        )
        findings = preflight(fusion, nodes)
        return [error.field for error in findings.problems], plan_text(fusion, findings, nodes)

    return plan


def test_the_attention_of_a_family_is_chosen_and_said(planned):
    wrong, text = planned(GEMMA2)
    assert wrong == [] and "attention    eager (the model caps its attention logits at 50" in text


def test_an_attention_that_computes_the_target_wrong_is_refused(planned):
    wrong, text = planned(GEMMA2, attn_implementation="sdpa")
    assert wrong == ["training.attn_implementation"] and "sdpa leaves the cap out" in text


@pytest.mark.parametrize("name", ["flash_attention_2", "sdap"])
def test_an_attention_that_is_not_there_is_refused(planned, name):
    wrong, _ = planned({}, CPUS, engine={"kv_cache_memory_bytes": 10**8}, attn_implementation=name)
    assert wrong == ["training.attn_implementation"]


def test_a_cache_without_room_for_the_window_is_refused(planned):
    wrong, text = planned({}, CPUS, engine={"kv_cache_memory_bytes": 10**5})
    assert wrong == ["target.engine.max_model_len"] and "Lower engine.max_model_len to" in text


def test_activations_and_disk_are_shown(planned):
    _, text = planned(GEMMA2, micro_batch_size=2, max_length=1024, gradient_checkpointing=True)
    assert "with gradient checkpointing" in text and "2 x 1024 tokens" in text and "AdamW's temporaries" in text
    assert "Disk (estimate)\n  checkpoints: up to" in text and "one optimizer state" in text
