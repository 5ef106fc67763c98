"""What a checkpoint lacks, by the names and shapes of its tensors alone."""

import pytest
from model_folders import tensors_of
from transformers import CONFIG_MAPPING

from bohdi_ray.placement.memory.model_tensors import LAYER_TENSORS, rows_fault, tensors_fault
from bohdi_ray.placement.memory.weight_headers import quantized_as

CONFIG = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 2048, "num_hidden_layers": 3}


@pytest.mark.parametrize("model_type", LAYER_TENSORS)
def test_every_family_of_plain_decoders_is_known_by_its_tensors(model_type):
    config = {**CONFIG, "model_type": model_type, "tie_word_embeddings": True}
    names = tensors_of(model_type, head=False)
    assert tensors_fault(config, names) is None
    assert tensors_fault({**config, "tie_word_embeddings": False}, names) is not None
    unsaid = tensors_fault({**CONFIG, "model_type": model_type}, names)
    assert (unsaid is None) == CONFIG_MAPPING[model_type]().tie_word_embeddings, "transformers' default counts"
    for name in names:
        assert name in str(tensors_fault(config, [other for other in names if other != name]))


def test_what_is_not_known_for_sure_is_not_refused():
    llama = {**CONFIG, "model_type": "llama"}
    names = tensors_of("llama")
    quantized = [name.replace(".weight", ".qweight") if "proj" in name else name for name in names]
    assert tensors_fault({**llama, "quantization_config": {"quant_method": "awq"}}, quantized) is None
    assert tensors_fault({**llama, "model_type": "brand_new"}, ["x"]) is None
    assert tensors_fault(llama, tensors_of("llama", prefix="")) is None, (
        "transformers knows models without their prefix"
    )
    assert tensors_fault(llama, [*names, "model.layers.3.self_attn.q_proj.weight", "model.rotary.inv_freq"]) is None
    wrapper = {**CONFIG, "model_type": "gemma3_text", "text_config": {}}
    vision = [f"vision_tower.encoder.layers.{i}.w" for i in range(27)]
    assert tensors_fault(wrapper, [*tensors_of("gemma3_text", prefix="language_model.model."), *vision]) is None
    assert "layers" in str(tensors_fault(wrapper, [*vision, "language_model.model.layers.0.w"]))


SHARED = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight")
GPT_OSS = ("self_attn.sinks", "mlp.router.weight", "mlp.experts.down_proj_blocks", "mlp.experts.down_proj_scales")


def stacked(per_layer, num_layers=3, prefix="model."):
    """Names of a model of any family: embedding, norm, head, and these in every layer."""
    outside = [f"{prefix}embed_tokens.weight", f"{prefix}norm.weight", "lm_head.weight"]
    return outside + [f"{prefix}layers.{i}.{name}" for i in range(num_layers) for name in per_layer]


def awq():
    packed = []
    for name in tensors_of("llama"):
        root = name.removesuffix("weight")
        packed += [root + part for part in ("qweight", "qzeros", "scales")] if "_proj" in name else [name]
    return packed


OTHERS = ("olmo3", "qwen3_moe", "mixtral", "cohere2", "granitemoehybrid", "qwen3_5_text", "stablelm", "glm4", "new_one")


@pytest.mark.parametrize("model_type", OTHERS)
@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("model.layers.1.self_attn.o_proj.weight", "model.layers.1.self_attn.o_proj.weight"),
        ("model.norm.weight", "its last norm"),
        ("model.embed_tokens.weight", "its embedding"),
    ],
)
def test_of_any_family_a_layer_with_less_than_the_others_norm_and_embedding_are_missed(model_type, lost, words):
    config, names = {**CONFIG, "model_type": model_type}, stacked(SHARED)
    assert tensors_fault(config, names) is None
    assert words in str(tensors_fault(config, [name for name in names if name != lost]))


@pytest.mark.parametrize(
    ("model_type", "names", "lost"),
    [
        ("llama", awq(), "model.layers.1.self_attn.q_proj.qweight"),
        ("llama", awq(), "model.embed_tokens.weight"),
        ("llama", awq(), "model.norm.weight"),
        ("llama", awq(), "lm_head.weight"),
        ("llama", tensors_of("llama"), "model.layers.1.mlp.up_proj.weight"),
        ("gpt_oss", stacked(GPT_OSS), "model.layers.1.self_attn.sinks"),
        ("gpt_oss", stacked(GPT_OSS), "model.layers.2.mlp.experts.down_proj_blocks"),
    ],
)
def test_a_quantized_model_must_be_whole_too(model_type, names, lost):
    config = {**CONFIG, "model_type": model_type}
    assert tensors_fault(config, names, quantized=True) is None
    assert tensors_fault(config, [name for name in names if name != lost], quantized=True) is not None


@pytest.mark.parametrize(
    ("own", "layers"),
    [
        (
            {},
            [("mlp.gate_proj.weight",), ("mlp.experts.0.w", "mlp.gate.weight"), ("mlp.experts.0.w", "mlp.gate.weight")],
        ),
        ({"layer_types": ["full", "sliding", "full"]}, [("q",), ("q", "v"), ("q",)]),
        ({"num_kv_shared_layers": 1}, [("q", "k"), ("q", "k"), ("q",)]),
        ({"cla_share_factor": 2}, [("q", "k"), ("q",), ("q", "k")]),
        ({"block_configs": [{"no_op": True}, {}, {}]}, [("mlp",), ("mlp", "q"), ("mlp", "q")]),
        ({}, [("q", "first"), ("q",), ("q",)]),  # one with more than all others is special
        ({}, [("q.weight", "q.weight_scale"), ("q.weight",), ("q.weight", "q.weight_scale")]),
        ({}, [("q.qweight", "q.scales", "q.bias"), ("q.weight",), ("q.qweight", "q.scales", "q.bias")]),
    ],
)
def test_layers_of_different_kinds_are_not_held_against_each_other(own, layers):
    config = {**CONFIG, "model_type": "new_one", **own}
    outside = ["model.embed_tokens.weight", "model.norm.weight"]
    names = outside + [f"model.layers.{i}.{name}" for i, layer in enumerate(layers) for name in layer]
    assert tensors_fault(config, names, quantized=True) is None


def test_layers_may_stand_in_a_module_that_is_called_layers_itself():
    names = stacked(SHARED, prefix="model.layers.")
    names = [
        name.replace("model.layers.embed", "model.embed").replace("model.layers.norm", "model.norm") for name in names
    ]
    assert tensors_fault({**CONFIG, "model_type": "plamo3"}, names) is None
    assert "1 of the 3 layers" in str(
        tensors_fault({**CONFIG, "model_type": "plamo3"}, [name for name in names if ".1." not in name])
    )


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "backbone.embeddings.weight", "model.word_embeddings.weight"]
)
@pytest.mark.parametrize("norm", ["ln_f", "final_layernorm", "norm_f", "embedding_norm"])
def test_embedding_and_norm_are_known_by_what_families_call_them(name, norm):
    root, stack = name.split(".")[0], "h" if "wte" in name else "layers"
    names = [name, f"{root}.{norm}.weight", *(f"{root}.{stack}.{i}.w" for i in range(3))]
    assert tensors_fault({**CONFIG, "model_type": "new_one"}, names) is None
    assert tensors_fault({**CONFIG, "model_type": "new_one"}, names[1:]) is not None
    assert tensors_fault({**CONFIG, "model_type": "new_one"}, [name, *names[2:]]) is not None


def test_counts_and_masks_beside_plain_weights_are_no_quantization():
    table = {
        "w": "BF16",
        "h.0.attn.bias": "U8",
        "gpt_neox.layers.0.attention.bias": "U8",
        "position_ids": "I64",
        "tid2eid": "I64",
        "mask": "BOOL",
    }
    assert quantized_as({name: {"dtype": dtype} for name, dtype in table.items()}) is None
    assert quantized_as({"w": {"dtype": "F8_E5M2"}, "b": {"dtype": "F32"}}) == "F8_E5M2"


@pytest.mark.parametrize("rows", [290, 310])
def test_rows_of_embedding_and_head_are_those_of_config_json(rows):
    table = {name: {"dtype": "BF16", "shape": [300, 8]} for name in ("model.embed_tokens.weight", "lm_head.weight")}
    beside = {"mtp.embed_tokens.weight": {"dtype": "BF16", "shape": [5, 8]}}
    assert rows_fault({"vocab_size": 300}, table | beside) is None
    for name in table:
        wrong = table | {name: {"dtype": "BF16", "shape": [rows, 8]}}
        assert f"{rows} rows" in str(rows_fault({"vocab_size": 300}, wrong)) and rows_fault({}, wrong) is None
