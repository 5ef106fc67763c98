"""Memory estimates against sums by hand."""

import json

import pytest
from model_folders import NUM_PARAMS, SHAPES, write_safetensors

from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.memory.estimate import ModelSize, estimates, model_size
from bohdi_ray.placement.memory.kv_cache import KvShape
from bohdi_ray.placement.memory.weight_files import INDEX
from bohdi_ray.placement.placement import resolve_gpus

BILLION = ModelSize(
    num_params=10**9,
    stored_bytes=2 * 10**9,
    kv_numbers_per_token=10_000,
    max_positions=4096,
    kv=KvShape(50, 0, None, num_heads=2, numbers_per_head=100, splits=True),
)


def config_of(engine=None, resources=None, dtype="bfloat16", **training):
    model = {"model": "org/m", "dtype": dtype, "engine": engine or {}, "resources": resources or {}}
    return parse_config(
        {
            "run_dir": "x",
            "sources": [{"name": "s", **model}],
            "target": {"name": "t", **model},
            "training": training,
        }
    )


def estimated(config, has_gpus, card_gb=None, size: ModelSize | None = BILLION):
    lines = estimates(resolve_gpus(config, has_gpus), {"s": size, "t": size}, card_gb)
    return lines[0], lines[-1]


def test_sizes_are_read_from_headers_alone(make_model):
    size = model_size(make_model())
    assert (size.num_params, size.stored_bytes) == (NUM_PARAMS, 2 * NUM_PARAMS)
    assert (size.kv_numbers_per_token, size.max_positions) == (2 * 3 * 2 * 16, 2048)


def test_shards_add_up(make_model):
    folder = make_model()
    write_safetensors(folder / "model-2.safetensors", SHAPES, "F32", 4)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    size = model_size(folder)
    assert (size.num_params, size.stored_bytes) == (2 * NUM_PARAMS, 6 * NUM_PARAMS)


def test_settings_of_a_text_config_and_an_explicit_head_size_count(make_model):
    folder = make_model(config={"text_config": {"num_hidden_layers": 5, "head_dim": 32}})
    assert model_size(folder).kv_numbers_per_token == 2 * 5 * 2 * 32


def test_mistrals_own_copy_beside_the_weights_does_not_count_twice(make_model):
    folder = make_model()
    alone = model_size(folder)
    write_safetensors(folder / "consolidated.safetensors", SHAPES, "BF16", 2)
    assert model_size(folder) == alone


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4, b"\xff" * 100, (10**9).to_bytes(8, "little") + b"{}", b"\x02" + b"\x00" * 7 + b"[]"]
)
def test_a_damaged_weights_file_is_an_error(make_model, content):
    folder = make_model()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError):
        model_size(folder)


def test_an_engine_on_a_cpu_takes_weights_cache_and_overhead():
    engine, _ = estimated(config_of({"kv_cache_memory_bytes": 500_000_000}), has_gpus=False)
    assert engine.gb == pytest.approx(2 + 0.5 + 3)
    assert "25,000 tokens" in engine.parts and engine.of_what == "of main memory"


def test_a_split_engine_takes_its_share_on_each_gpu():
    split = {"kv_cache_memory_bytes": 500_000_000, "tensor_parallel_size": 2}
    engine, _ = estimated(config_of(split), has_gpus=True)
    assert engine.gb == pytest.approx(1 + 0.5 + 1.5)


def test_without_a_cache_size_an_engine_takes_its_share_of_the_card():
    engine, _ = estimated(config_of({"gpu_memory_utilization": 0.5}), has_gpus=True, card_gb=80)
    assert engine.gb == 40 and "36.5 left" in engine.parts


@pytest.mark.parametrize(("dtype", "gigabytes"), [("bfloat16", 2), ("float32", 4), ("auto", 2)])
def test_weights_count_in_the_format_they_are_loaded_in(dtype, gigabytes):
    engine, _ = estimated(config_of({"kv_cache_memory_bytes": 1}, dtype=dtype), has_gpus=False)
    assert engine.gb == pytest.approx(gigabytes + 3, abs=0.01)


@pytest.mark.parametrize(
    ("stage", "workers", "dtype", "expected"),
    [
        (1, 4, "bfloat16", 2 + 4 + 3 + 1),  # the last is AdamW's temporaries
        (2, 4, "bfloat16", 2 + 1 + 3 + 1),
        (3, 4, "bfloat16", 0.5 + 1 + 3 + 1),
        (2, 1, "bfloat16", 18 + 4),
        (2, 2, "float32", 4 + 2 + 6 + 2),
    ],
)
def test_a_train_worker_takes_what_its_stage_leaves_it(stage, workers, dtype, expected):
    config = config_of(num_workers=workers, deepspeed={"zero_optimization": {"stage": stage}})
    training = config.training.model_copy(update={"dtype": dtype})
    _, worker = estimated(config.model_copy(update={"training": training}), has_gpus=True)
    assert worker.gb == pytest.approx(expected + 1.5) and worker.num == workers


def test_an_optimizer_in_main_memory_is_not_counted_on_the_card():
    zero = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    _, worker = estimated(config_of(deepspeed=zero), has_gpus=True)
    assert worker.gb == pytest.approx(2 + 4 + 1.5)


@pytest.mark.parametrize("has_gpus", [True, False])
def test_what_is_not_here_is_not_known_rather_than_guessed(has_gpus):
    for line in estimated(config_of(), has_gpus, size=None):
        assert line.gb is None


def test_towers_for_images_are_served_and_not_trained(make_model):
    folder = make_model()
    alone = model_size(folder)
    tower = {"model.vision_tower.patch.weight": [100, 10], "multi_modal_projector.weight": [10, 10]}
    write_safetensors(folder / "model.safetensors", SHAPES | tower)
    both = model_size(folder)
    assert (both.num_params, both.num_trained_params) == (alone.num_params + 1100, alone.num_params)
