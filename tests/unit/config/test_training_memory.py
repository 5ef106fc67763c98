"""What training takes, against sums by hand."""

from __future__ import annotations

import pytest

from bohdi_ray.config import TrainingConfig
from bohdi_ray.placement.memory.training_memory import activations, checkpoint_disk, layer_shape, worker_parts

LLAMA_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def kept(config=LLAMA_8B, attention=None, **training):
    shape = layer_shape(config)
    assert shape is not None
    return activations(TrainingConfig(**{"max_length": 8192, "packing": False} | training), shape, attention)


LAYER, LAST_NORM = 4096 * 2 * (4 + 4) + 4096 * 4 * 2 + 14336 * 4 * 2, 4096 * (4 + 4)


def test_layers_keep_norms_attention_and_mlp_for_every_token():
    assert kept().layers == pytest.approx(8192 * (32 * LAYER + LAST_NORM) / 1e9)
    assert kept(micro_batch_size=2).layers == pytest.approx(2 * kept().layers)
    assert kept(packing=True).layers == pytest.approx(8192 * (32 * (LAYER + 8192 * 2) + LAST_NORM) / 1e9)


def test_norms_behind_and_of_queries_count_too():
    per_token = 8192 * 32 * (4 + 4) / 1e9
    gemma = kept(LLAMA_8B | {"model_type": "gemma2"})
    assert gemma.layers - kept().layers == pytest.approx(2.5 * 4096 * per_token)
    qwen = kept(LLAMA_8B | {"model_type": "qwen3"})
    assert qwen.layers - kept().layers == pytest.approx((4096 + 1024) * per_token)


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all():
    expected = 8192 * (32 * 4096 * 2 + LAYER + LAST_NORM) / 1e9
    assert kept(gradient_checkpointing=True).layers == pytest.approx(expected)
    assert kept(gradient_checkpointing=True).logits == kept().logits


def test_eager_attention_keeps_every_pair_of_tokens():
    capped = LLAMA_8B | {"attn_logit_softcapping": 50.0}
    pairs = 32 * 32 * 8192**2
    assert kept(attention="eager").layers - kept().layers == pytest.approx(pairs * 6 / 1e9)
    assert kept(capped, "eager").layers - kept().layers == pytest.approx(pairs * 8 / 1e9)


def test_logits_count_for_the_whole_vocabulary_and_once_more_for_a_cap():
    capped = kept(LLAMA_8B | {"final_logit_softcapping": 30.0}).logits
    assert kept().logits == pytest.approx(3 * 2 * 8192 * 128256 / 1e9)
    assert capped - kept().logits == pytest.approx(2 * 8192 * 128256 / 1e9)
    # Few tokens: the float32 copies of the chunk at hand are larger.
    assert kept(max_length=256).logits == pytest.approx(3 * 4 * 256 * 128256 / 1e9)
    assert kept(max_length=1024).logits == pytest.approx((2 * (2 * 1024 - 512) + 12 * 512) * 128256 / 1e9)


def test_of_a_mixture_the_experts_of_a_token_count():
    mixture = layer_shape(LLAMA_8B | {"num_experts_per_tok": 4, "moe_intermediate_size": 2048})
    assert mixture is not None and mixture.mlp == 8192


def test_temporaries_of_adamw_are_shared_as_the_optimizer_is():
    on_gpu = TrainingConfig(num_workers=4, resources_per_worker={"GPU": 1})
    assert worker_parts(on_gpu, 8 * 10**9).temporaries == pytest.approx(8)
    assert worker_parts(TrainingConfig(), 10**9).temporaries == pytest.approx(8)


def test_disk_holds_versions_and_two_optimizer_states_while_one_is_written():
    """Llama-3.1-8B: a state is 14 bytes a parameter; three versions used to keep three of them."""
    disk = checkpoint_disk(TrainingConfig(keep_checkpoints=3), 8 * 10**9, 16 * 10**9)
    assert (disk.version, disk.optimizer) == (16, 112)
    assert disk.most == 8 * 16 + 2 * 112
    without = checkpoint_disk(TrainingConfig(keep_checkpoints=3, reset_optimizer=True), 8 * 10**9, 16 * 10**9)
    assert (without.optimizer, without.most) == (0, 128)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("vocab_size", "x"), ("intermediate_size", "12"), ("intermediate_size", [1, "a"]), ("head_dim", [4])),
        *(("num_experts_per_tok", {}), ("attn_logit_softcapping", "x"), ("final_logit_softcapping", [1, 2])),
    ],
)
def test_what_is_no_number_is_an_error_that_names_it(name, value):
    with pytest.raises(ValueError, match=name):
        layer_shape(LLAMA_8B | {name: value})


def test_widths_that_differ_by_layer_count_as_the_widest():
    shape = layer_shape(LLAMA_8B | {"intermediate_size": [1024, 2048]})
    assert shape is not None and shape.mlp == 2048


@pytest.mark.parametrize("missing", ["hidden_size", "vocab_size", "num_hidden_layers"])
def test_what_the_configuration_does_not_say_is_not_guessed(missing):
    assert layer_shape({key: value for key, value in LLAMA_8B.items() if key != missing}) is None
