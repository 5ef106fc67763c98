"""The window a model reads, by vLLM's rule, and who has the last word about it."""

import json

import pytest

from bohdi_ray.config import VllmModel
from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.memory.config_numbers import DEFAULTS, language_config
from bohdi_ray.placement.memory.engine_settings import with_last_words
from bohdi_ray.placement.memory.estimate import size_of
from bohdi_ray.placement.memory.windows import default_window, most_window
from bohdi_ray.preflight import preflight

CARDS = [Node("g", num_cpus=64, num_gpus=8, memory_gb=500, gpu_memory_gb=80)]
LONGROPE = {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}, "original_max_position_embeddings": 4096}
OWN = {"max_position_embeddings": 16384}


def scaled(kind, factor=4.0, **more):
    return OWN | {"rope_scaling": {"rope_type": kind, "factor": factor}, **more}


@pytest.mark.parametrize(
    ("config", "by_itself", "most"),
    [
        (OWN, 16384, 16384),
        ({}, None, None),
        (scaled("linear"), 65536, 65536),
        (scaled("dynamic"), 65536, 65536),
        (OWN | {"rope_scaling": {"type": "linear", "factor": 4}}, 65536, 65536),
        (OWN | {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, 32768, 32768),
        # Their own windows are scaled already.
        (scaled("yarn"), 16384, 16384),
        (scaled("llama3"), 16384, 16384),
        (scaled("linear", model_type="gemma3_text"), 16384, 16384),
        (scaled("default", None), 16384, 16384),
        (OWN | LONGROPE, 4096, 16384),
        (OWN | LONGROPE | {"rope_scaling": {"type": "su"}}, 4096, 16384),
        (OWN | {"rope_scaling": {"type": "longrope"}}, 16384, 16384),
        # Other names; the smallest counts, and model_max_length alone where it is there.
        *(({name: 2048}, 2048, 2048) for name in ("n_positions", "max_seq_len", "seq_length", "model_max_length")),
        (OWN | {"n_positions": 1024}, 1024, 1024),
        (OWN | {"model_max_length": 131072}, 131072, 131072),
    ],
)
def test_the_window_is_the_one_that_vllm_takes(config, by_itself, most):
    assert (default_window(config), most_window(config)) == (by_itself, most)


@pytest.mark.parametrize("config", [{"max_position_embeddings": "2048"}, {"n_positions": [1]}, scaled("linear", "4")])
def test_a_window_that_is_no_number_is_an_error(config):
    with pytest.raises(ValueError, match=r"config\.json gives"):
        most_window(config)


def checked(folder, nodes=CARDS, max_tokens=256, **engine):
    small = {"answer": {"max_tokens": max_tokens}}
    source = {"name": "s", "model": str(folder), "sampling": small, "engine": engine}
    target = {"name": "t", "model": "org/t", "sampling": {"answer": {"max_tokens": 256}}}
    findings = preflight(parse_config({"run_dir": f"{folder}-run", "sources": [source], "target": target}), nodes)
    return {error.field.removeprefix("sources.0."): error.rule for error in findings.problems}


def test_a_scaled_window_may_be_asked_for_and_no_more(make_model):
    folder = make_model(config={"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 4.0}})
    assert checked(folder, max_model_len=8192) == {}
    assert "reads 8192 tokens" in checked(folder, max_model_len=8193)["engine.max_model_len"]


def test_an_answer_as_long_as_the_window_that_longrope_starts_with_is_refused(make_model):
    folder = make_model(config={"max_position_embeddings": 131072} | LONGROPE)
    assert "window of 4096 tokens" in checked(folder, max_tokens=8192)["sampling.answer.max_tokens"]
    assert checked(folder, max_tokens=8192, max_model_len=131072) == {}


def test_room_is_asked_for_the_window_that_longrope_starts_with(make_model):
    """131,072 tokens would take 100 MB of cache, 4096 take 3."""
    folder = make_model(config={"max_position_embeddings": 131072} | LONGROPE)
    assert checked(folder, kv_cache_memory_bytes=10_000_000) == {}
    assert "131072" in checked(folder, kv_cache_memory_bytes=10_000_000, max_model_len=131072)["engine.max_model_len"]


def test_other_names_of_a_window_bound_it_too(make_model):
    folder = make_model(config={"max_position_embeddings": None, "n_positions": 2048})
    assert "reads 2048 tokens" in checked(folder, max_model_len=65536)["engine.max_model_len"]


def test_extra_has_the_last_word_about_the_window(make_model):
    folder = make_model(config={"max_position_embeddings": 131072})
    tight = {"kv_cache_memory_bytes": 10_000_000}
    assert "131072 tokens" in checked(folder, **tight)["engine.max_model_len"]
    assert checked(folder, **tight, extra={"max_model_len": 8192}) == {}
    assert checked(folder, **tight, max_model_len=131072, extra={"max_model_len": -1}) == {}
    assert (
        "reads 131072"
        in checked(folder, max_model_len=64, extra={"max_model_len": 200_000})["engine.extra.max_model_len"]
    )
    assert "window of 128" in checked(folder, extra={"max_model_len": 128})["sampling.answer.max_tokens"]


def test_what_an_engine_changes_in_config_json_counts(make_model):
    folder = make_model()
    longer = {"hf_overrides": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}}
    assert checked(folder, max_model_len=8192, extra=longer) == {}
    assert "reads 8192" in checked(folder, max_model_len=9000, extra=longer)["engine.max_model_len"]
    assert checked(folder, max_model_len=9000, extra={"hf_overrides": {"max_position_embeddings": 16384}}) == {}
    wrong = {"hf_overrides": {"max_position_embeddings": "many"}}
    assert "hf_overrides" in checked(folder, extra=wrong)["engine.extra"]


def test_prompts_are_checked_against_the_window_as_an_engine_changes_it(make_model):
    folder = make_model(config={"max_position_embeddings": 300})
    longer = {"hf_overrides": {"max_position_embeddings": 8192}}
    assert checked(folder, max_tokens=64) != {} and checked(folder, max_tokens=64, extra=longer) == {}


def test_fields_take_what_extra_says_of_them():
    extra = {"max_model_len": 512, "gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 7, "dtype": "half"}
    model = with_last_words(VllmModel(name="m", model="org/m", engine={"extra": extra}))
    engine = model.engine
    assert (engine.max_model_len, engine.gpu_memory_utilization, engine.kv_cache_memory_bytes) == (512, 0.5, 7)
    assert model.dtype == "float16"
    strange = VllmModel(name="m", model="org/m", engine={"extra": {"gpu_memory_utilization": "x", "dtype": 5}})
    assert with_last_words(strange) == strange


GEMMA_4B = {
    "model_type": "gemma3",
    "vision_config": {},
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024},
}


def test_a_wrapper_that_names_only_what_differs_from_its_class_is_known_whole():
    size = size_of(language_config(GEMMA_4B), 4 * 10**9, 8 * 10**9)
    assert size.max_positions == 131072 and size.layers is not None and size.layers.vocab == 262208
    assert size.kv is not None and size.kv.sure
    assert (size.kv.num_full, size.kv.num_window, size.kv.num_heads) == (5, 29, 4)
    nameless = GEMMA_4B | {"text_config": {"hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}}
    assert size_of(language_config(nameless), 1, 2).kv == size.kv


def test_a_window_beyond_the_one_of_its_class_is_refused(make_model):
    folder = make_model()
    (folder / "config.json").write_text(json.dumps(GEMMA_4B))
    assert "reads 131072 tokens" in checked(folder, max_model_len=500_000)["engine.max_model_len"]


@pytest.mark.parametrize("missing", ["max_position_embeddings", "hidden_size"])
def test_numbers_that_config_json_leaves_out_are_said_not_to_be_checked(make_model, missing):
    folder = make_model(config={missing: None})
    models = {"sources": [{"name": "s", "model": str(folder)}], "target": {"name": "t", "model": str(folder)}}
    findings = preflight(parse_config({"run_dir": f"{folder}-run", **models}), CARDS)
    assert any("lacks some numbers" in note and note.startswith("s: ") for note in findings.notes)


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_what_is_filled_in_is_what_the_class_fills_in(kind):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    assert {name: getattr(config, name) for name in DEFAULTS[kind]} == DEFAULTS[kind]


def test_what_config_json_says_is_never_replaced(make_model):
    folder = make_model(config={"text_config": {"model_type": "llama", "num_hidden_layers": 5}, "vision_config": {}})
    settings = language_config(json.loads((folder / "config.json").read_text()))
    assert (settings["num_hidden_layers"], settings["hidden_size"]) == (5, 64)
    assert settings["max_position_embeddings"] == 2048
