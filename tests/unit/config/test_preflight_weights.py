"""Weights that are not there, or not whole, are refused before anything starts, and never made up at random."""

import json
import re

import pytest
from model_folders import CHAT_TEMPLATE, tensors_of, write_safetensors

from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.weight_headers import STORED_BYTES
from bohdi_ray.preflight import preflight

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9876543210\n"
INDEX = "model.safetensors.index.json"
CONFIG = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 2048, "num_hidden_layers": 3}


@pytest.fixture
def folder(tmp_path):
    """A whole llama of two shards with an index."""
    folder = tmp_path / "model"
    folder.mkdir()
    names = tensors_of("llama")
    shards = {"model-1.safetensors": names[:10], "model-2.safetensors": names[10:]}
    for file, some in shards.items():
        write_safetensors(folder / file, {name: [8, 8] for name in some})
    weight_map = {name: file for file, some in shards.items() for name in some}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    config = {**CONFIG, "model_type": "llama", "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"x")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def refused(folder):
    """The one error about a folder, as a source and as a target; "" if it is accepted."""
    found = []
    for source, target in ((str(folder), "org/t"), ("org/s", str(folder))):
        small = {"sampling": {"answer": {"max_tokens": 256}}}
        models = {
            "sources": [{"name": "s", "model": source, **small}],
            "target": {"name": "t", "model": target, **small},
        }
        config = parse_config({"run_dir": f"{folder}-run", **models})
        problems = preflight(config, [Node("here", num_cpus=64, memory_gb=64)]).problems
        assert all(error.field.endswith(".model") and error.rule and error.remedy for error in problems)
        assert all(error.value == str(folder) for error in problems), "the folder is named"
        found.append([str(error) for error in problems])
    assert len(found[0]) == len(found[1]) <= 1
    return found[0][0] if found[0] else ""


def test_a_whole_model_is_accepted(folder):
    assert refused(folder) == ""


def rename_tensors(folder, change, rows=8):
    """Writes all tensors into one file, under the names that `change` gives; None leaves one out. `rows`: of embedding
    and head."""
    for file in (folder / INDEX, *folder.glob("*.safetensors")):
        file.unlink(missing_ok=True)
    kept = {new: [8, 8] for name in tensors_of("llama") if (new := change(name)) is not None}
    kept |= {name: [rows, 8] for name in ("model.embed_tokens.weight", "lm_head.weight") if name in kept}
    write_safetensors(folder / "model.safetensors", kept)


def test_a_shard_that_is_not_there_is_refused(folder):
    (folder / "model-2.safetensors").unlink()
    assert "model-2.safetensors" in refused(folder)


@pytest.mark.parametrize("left", [0, 4, 30, -1, -100])
def test_a_truncated_shard_is_refused(folder, left):
    shard = folder / "model-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:left])
    assert re.search("model-2.safetensors is (cut short|empty|not a safetensors)", refused(folder))


def test_a_shard_with_something_behind_its_tensors_is_refused(folder):
    with (folder / "model-1.safetensors").open("ab") as file:
        file.write(b"<html>")
    assert "6 bytes after its tensors" in refused(folder)


@pytest.mark.parametrize(
    "name", ["model-1.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", INDEX]
)
@pytest.mark.parametrize(("content", "words"), [(POINTER, "is a Git LFS pointer"), ("", "is empty")])
def test_a_pointer_or_nothing_in_the_place_of_a_file_is_refused(folder, name, content, words):
    (folder / name).write_text(content)
    found = refused(folder)
    assert f"{name} {words}" in found and ("git lfs pull" in found) == (content == POINTER)


def test_a_link_to_nothing_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(folder / "gone")
    assert "link to a file that does not exist" in refused(folder)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "tokenizer.json", INDEX])
def test_a_json_file_that_breaks_off_is_refused(folder, name):
    (folder / name).write_text('{"a": {"b": 1')
    assert name in refused(folder)


def test_tensors_that_the_index_looks_for_in_vain_are_refused(folder):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "model-2.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    assert "looks for model.norm.weight in model-2.safetensors" in refused(folder)


@pytest.mark.parametrize(
    "offsets", [[0, 64], [64, 0], [-128, 0], [0], None, "x"], ids=["short", "turned", "negative", "one", "none", "text"]
)
def test_a_table_that_contradicts_itself_is_refused(folder, offsets):
    table = {"w": {"dtype": "BF16", "shape": [8, 8], "data_offsets": offsets}}
    header = json.dumps(table).encode()
    (folder / "model-1.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(128))
    assert "is inconsistent about w" in refused(folder)


def test_tensors_that_overlap_or_leave_gaps_are_refused(folder):
    for second in ([0, 128], [256, 384]):
        table = {n: {"dtype": "BF16", "shape": [8, 8], "data_offsets": o} for n, o in (("a", [0, 128]), ("b", second))}
        header = json.dumps(table).encode()
        (folder / "model-1.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(384))
        assert "not contiguous" in refused(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: None if n == "model.layers.1.mlp.up_proj.weight" else n, "lack model.layers.1.mlp.up_proj.weight"),
        (lambda n: None if "o_proj" in n else n, "and 2 others"),
        (lambda n: None if ".layers.2." in n else n, "lack 1 of the 3 layers"),
        (lambda n: None if ".layers." in n else n, "hold no layer"),
        (lambda n: None if "embed_tokens" in n else n, "lack model.embed_tokens.weight"),
        (lambda n: None if n == "model.norm.weight" else n, "lack model.norm.weight"),
        (lambda n: None if n == "lm_head.weight" else n, "lack lm_head.weight"),
        (lambda n: f"base_model.{n}", "under 'base_model.model.'"),
        (lambda n: n.replace("model.layers", "transformer.layers"), "under 'transformer.'"),
    ],
)
def test_a_model_that_lacks_tensors_is_refused(folder, change, words):
    rename_tensors(folder, change)
    found = refused(folder)
    assert words in found and "at random" in found


def test_a_copy_in_the_publishers_own_layout_beside_the_shards_is_no_fault(folder):
    write_safetensors(folder / "consolidated.safetensors", {"layers.0.attention.wq.weight": [8, 8]})
    assert refused(folder) == ""


def test_a_target_that_cannot_be_one_and_a_tokenizer_beyond_the_embedding_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    plain = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    rename_tensors(folder, lambda name: name, rows=2)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 2}))
    assert "larger than its embedding" in refused(folder)
    rename_tensors(folder, lambda name: name, rows=3)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 3}))
    assert refused(folder) == ""
    (folder / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))
    target = {"name": "t", "model": str(folder), "sampling": {"answer": {"max_tokens": 64}}}
    plain = {"run_dir": f"{folder}-run", "sources": [{"name": "s", "model": "org/s"}], "target": target}
    (error,) = preflight(parse_config(plain), None).problems
    assert error.field == "target.model" and "encoder-decoder" in error.rule


@pytest.mark.parametrize("dtype", ["F8_E4M3", "U8", "I32"])
@pytest.mark.parametrize("files", [(), ("hf_quant_config.json",), ("quantize_config.json",)])
def test_a_target_of_quantized_weights_is_known_by_the_weights(folder, dtype, files):
    rename_tensors(folder, lambda name: name)
    write_safetensors(
        folder / "model.safetensors", {n: [8, 8] for n in tensors_of("llama")}, dtype, STORED_BYTES[dtype]
    )
    for file in files:
        (folder / file).write_text('{"quantization": {"quant_algo": "FP8"}}')
    small = {"sampling": {"answer": {"max_tokens": 256}}}
    source, target = {"name": "s", "model": str(folder), **small}, {"name": "t", "model": str(folder), **small}
    plain = {"run_dir": f"{folder}-run", "sources": [source], "target": target}
    (error,) = preflight(parse_config(plain), [Node("here", num_cpus=64, memory_gb=64)]).problems
    assert error.field == "target.model" and f"quantized (stored as {dtype})" in error.rule


def test_shards_without_an_index_are_no_target(folder):
    (folder / INDEX).unlink()
    for i in (1, 2):
        (folder / f"model-{i}.safetensors").rename(folder / f"model-0000{i}-of-00002.safetensors")
    target = {"name": "t", "model": str(folder), "sampling": {"answer": {"max_tokens": 64}}}
    plain = {"run_dir": f"{folder}-run", "sources": [{"name": "s", "model": "org/s"}], "target": target}
    (error,) = preflight(parse_config(plain), None).problems
    assert INDEX in error.rule and error.field == "target.model"
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "of 2 files" in refused(folder)
