"""Weights that are converted, kept as they are, unpacked, or published once more, against sums by hand."""

import json

import pytest
from model_folders import CHAT_TEMPLATE

from bohdi_ray.config import VllmModel
from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.estimate import model_size, weights_gb
from bohdi_ray.preflight import preflight
from bohdi_ray.preflight.plan import plan_text

PLAIN = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}
NUM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1, "I32": 4}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYER = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder_of(tmp_path):
    """A folder whose tensors have these numbers of elements and formats; nothing is behind the table's holes."""

    def make(tensors: dict[str, tuple[int, str]], **config):
        folder = tmp_path / f"m{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(PLAIN | config))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        table, end = {}, 0
        for name, (numbers, dtype) in tensors.items():
            start, end = end, end + numbers * NUM_BYTES[dtype]
            table[name] = {"dtype": dtype, "shape": [numbers], "data_offsets": [start, end]}
        header = json.dumps(table).encode()
        with (folder / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + end)
        return folder

    return make


def gigabytes(folder, dtype, num_gpus=1.0):
    model = VllmModel(name="m", model=str(folder), dtype=dtype, resources={"num_gpus": num_gpus})
    return weights_gb(model, model_size(folder))


@pytest.mark.parametrize(("dtype", "expected"), [("auto", 2e-6), ("bfloat16", 2e-6), ("float32", 4e-6)])
def test_float32_files_are_loaded_as_bfloat16_unless_told_otherwise(folder_of, dtype, expected):
    folder = folder_of({EMBEDDING: (500, "F32"), HEAD: (500, "F32")}, torch_dtype="float32")
    assert gigabytes(folder, dtype) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("packed", "dtype", "expected"),
    [
        ("F8_E4M3", "bfloat16", 200 + 1000),
        ("F8_E4M3", "auto", 200 + 1000),
        ("F8_E4M3", "float32", 400 + 1000),
        ("I32", "float16", 200 + 4000),
        ("U8", "bfloat16", 200 + 1000),
    ],
)
def test_packed_weights_keep_their_bytes_whatever_the_engine_computes_in(folder_of, packed, dtype, expected):
    folder = folder_of({EMBEDDING: (100, "BF16"), f"{LAYER}.weight": (1000, packed)})
    assert gigabytes(folder, dtype) * 1e9 == pytest.approx(expected)


MXFP4 = {"quantization_config": {"quant_method": "mxfp4"}, "architectures": ["GptOssForCausalLM"]}
EXPERTS = {"model.layers.0.mlp.experts.down_proj_blocks": (800, "U8")}
SCALES = {"model.layers.0.mlp.experts.down_proj_scales": (50, "U8")}


def test_mxfp4_is_trained_and_published_as_the_numbers_it_stands_for(folder_of):
    folder = folder_of({EMBEDDING: (100, "BF16"), HEAD: (100, "BF16")} | EXPERTS | SCALES, **MXFP4)
    size = model_size(folder)
    assert size.stored_bytes == 400 + 850, "a source keeps it"
    published = size.published()
    assert published.num_params == published.num_trained_params == 200 + 1600
    assert published.stored_bytes == 2 * 1800
    assert weights_gb(VllmModel(name="m", model="x"), published) == pytest.approx(3.6e-6)


def test_eight_bits_that_are_not_mxfp4_are_not_unpacked(folder_of):
    size = model_size(folder_of({EMBEDDING: (100, "BF16")} | EXPERTS, architectures=["Gemma2ForCausalLM"]))
    assert size.published().num_params == 900


@pytest.mark.parametrize(
    ("architecture", "has_head", "published"),
    [("Qwen2ForCausalLM", False, 1200), ("Qwen2ForCausalLM", True, 1200), ("Gemma2ForCausalLM", False, 1100)],
)
def test_an_embedding_is_published_once_more_where_engines_take_a_head(folder_of, architecture, has_head, published):
    tensors = {EMBEDDING: (100, "BF16"), f"{LAYER}.weight": (1000, "BF16")}
    tensors |= {HEAD: (100, "BF16")} if has_head else {}
    size = model_size(folder_of(tensors, architectures=[architecture])).published()
    assert (size.num_params, size.stored_bytes) == (published, 2 * published)
    assert size.num_trained_params == 1100 + 100 * has_head


def test_other_towers_are_not_published(folder_of):
    tensors = {"language_model.model.embed_tokens.weight": (100, "BF16"), "vision_tower.x": (5000, "BF16")}
    size = model_size(folder_of(tensors, model_type="gemma3", vision_config={}, text_config={})).published()
    assert (size.num_params, size.num_trained_params) == (200, 100)


def test_float32_files_of_a_model_in_bfloat16_are_published_in_bfloat16(folder_of):
    size = model_size(folder_of({EMBEDDING: (100, "F32"), HEAD: (100, "F32")})).published()
    assert size.stored_bytes == 400


def planned(folder, role, card_gb=24, extra=None):
    models = {"s": "org/s", "t": "org/t"} | {role: str(folder)}
    source, target = (
        {"name": name, "model": model, "engine": {"max_model_len": 1024, "extra": extra or {}}, "dtype": "bfloat16"}
        for name, model in models.items()
    )
    small = {"sampling": {"answer": {"max_tokens": 256}}}
    config = parse_config({"run_dir": f"{folder}-run", "sources": [source | small], "target": target | small})
    nodes = [Node("g", num_cpus=64, num_gpus=8, memory_gb=500, gpu_memory_gb=card_gb)]
    findings = preflight(config, nodes)
    return findings, plan_text(config, findings, nodes)


def test_a_target_is_planned_as_it_is_published(folder_of):
    tensors = {EMBEDDING: (100_000_000, "BF16"), "model.layers.0.mlp.experts.down_proj_blocks": (5_000_000_000, "U8")}
    folder = folder_of(tensors, **MXFP4)
    _, text = planned(folder, "t")
    assert "weights 20.4, about 0.0 left" in text  # 10.1e9 numbers, and the embedding once more
    assert "ZeRO-2: weights 20.2 + gradients 40.4" in text
    assert "20.4 GB each" in text
    _, as_source = planned(folder, "s")
    assert "weights 5.2" in as_source


@pytest.mark.parametrize("extra", [{"quantization": "fp8"}, {"cpu_offload_gb": 8}])
def test_weights_that_extra_makes_smaller_are_a_note_and_no_error(folder_of, extra):
    folder = folder_of({EMBEDDING: (4_000_000_000, "BF16"), f"{LAYER}.weight": (4_000_000_000, "BF16")})
    plain, _ = planned(folder, "s", card_gb=16)
    assert any("the weights take 16.0 GB" in error.rule for error in plain.problems)
    findings, _ = planned(folder, "s", 16, extra)
    assert not any("the weights take" in error.rule for error in findings.problems)
    assert not any(error.field.endswith("max_model_len") for error in findings.problems)
    assert any("the weights take 16.0 GB" in note and next(iter(extra)) in note for note in findings.notes)
