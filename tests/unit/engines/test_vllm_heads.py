"""Which of vLLM's classes load a head of their own, from the source of the vLLM that is installed."""

from __future__ import annotations

import ast

import pytest

from bohdi_ray.engines.families import vllm_heads
from bohdi_ray.engines.families.vllm_heads import takes_own_head


@pytest.mark.parametrize(
    "architecture",
    [
        *("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"),
        # The last three come to their head through other classes: a parent, and vLLM's classes over transformers.
        *("Gemma3ForCausalLM", "Gemma4ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "SmolLM3ForCausalLM"),
    ],
)
def test_classes_with_a_head_take_one_that_is_not_tied(architecture):
    assert takes_own_head(architecture)


@pytest.mark.parametrize("architecture", ["Gemma2ForCausalLM", "Gemma3nForCausalLM", "Cohere2ForCausalLM"])
def test_classes_that_compute_logits_from_the_embedding_take_none(architecture):
    assert not takes_own_head(architecture)


def test_a_class_that_ties_whatever_the_configuration_says_takes_none():
    assert not takes_own_head("Lfm2ForCausalLM")


def test_an_architecture_that_vllm_does_not_name_is_taken_for_one_with_a_head():
    assert takes_own_head("NeverHeardOfForCausalLM")


def test_a_call_under_a_condition_about_tied_embeddings_is_no_tie_for_all():
    always = ast.parse("class A:\n    def __init__(self, c):\n        self.head = self.head.tie_weights(self.e)")
    asked = ast.parse(
        "class A:\n    def __init__(self, c):\n        if c.tie:\n            self.head.tie_weights(self.e)"
    )
    assert vllm_heads._always_ties(always.body[0]) and not vllm_heads._always_ties(asked.body[0])
