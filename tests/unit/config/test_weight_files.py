"""Which files of a folder are a model's weights."""

import json
import pickle

import pytest

from bohdi_ray.placement.memory.weight_files import INDEX, WeightFilesError, index_needed, weight_files


@pytest.fixture
def folder(tmp_path):
    def make(*names, index=None):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        if index is not None:
            (tmp_path / INDEX).write_text(index if isinstance(index, str) else json.dumps({"weight_map": index}))
        return tmp_path

    return make


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("there", "index", "wanted"),
    [
        (("model.safetensors",), None, ["model.safetensors"]),
        (("model.safetensors", "consolidated.safetensors"), None, ["model.safetensors"]),
        (("model.safetensors", "model.fp16.safetensors"), None, ["model.safetensors"]),
        (("model.safetensors", "adapter_model.safetensors"), None, ["model.safetensors"]),
        ((*SHARDS, "consolidated.safetensors"), {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[1]}, list(SHARDS)),
        ((*SHARDS, "original/model.safetensors"), {"a": SHARDS[0], "b": SHARDS[1]}, list(SHARDS)),
        ((*SHARDS, "mtp.safetensors"), {"a": SHARDS[0], "b": SHARDS[1]}, list(SHARDS)),
        ((*SHARDS, "consolidated-00001-of-00002.safetensors"), None, list(SHARDS)),
        ((*SHARDS, "adapter_model.safetensors", "model.fp16.safetensors"), None, list(SHARDS)),
        ((*SHARDS, "model-00001-of-00002.fp16.safetensors"), None, list(SHARDS)),
        (("consolidated.safetensors",), None, []),
        ((), None, []),
    ],
)
def test_each_weight_counts_once(folder, there, index, wanted):
    at = folder(*there, index=index)
    assert [file.relative_to(at).as_posix() for file in weight_files(at)] == wanted


def test_a_file_that_the_index_names_and_that_is_not_there_is_named(folder):
    at = folder(SHARDS[0], index={"a": SHARDS[0], "b": SHARDS[1]})
    with pytest.raises(WeightFilesError, match=SHARDS[1]) as raised:
        weight_files(at)
    assert raised.value.missing == (SHARDS[1],)
    assert pickle.loads(pickle.dumps(raised.value)).missing == (SHARDS[1],)


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_an_error(folder, index):
    with pytest.raises(WeightFilesError, match="damaged"):
        weight_files(folder("model.safetensors", index=index))


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/model.safetensors"])
def test_an_index_must_stay_in_its_folder(folder, name):
    with pytest.raises(WeightFilesError, match="outside"):
        weight_files(folder(index={"a": name}))


@pytest.mark.parametrize("there", [SHARDS[:1], SHARDS[1:], ("model-00001-of-00003.safetensors", *SHARDS)])
def test_without_an_index_numbered_files_must_all_be_there(folder, there):
    with pytest.raises(WeightFilesError, match="the folder has 1"):
        weight_files(folder(*there))


@pytest.mark.parametrize(
    ("there", "index", "is_found"),
    [
        (("model.safetensors",), None, True),
        (SHARDS, {"a": SHARDS[0], "b": SHARDS[1]}, True),
        (SHARDS, None, False),
        (("model-00001-of-00001.safetensors",), None, False),
        (("weights.safetensors",), None, False),
    ],
)
def test_the_trainer_finds_one_file_or_those_of_an_index(folder, there, index, is_found):
    assert (index_needed(folder(*there, index=index)) is None) == is_found
