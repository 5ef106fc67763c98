"""A tokenizer larger than its model's embedding is refused, unless no text can hold the tokens that are too many."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_families

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.engines.chat.vocabulary import check_folder_vocabulary, num_embedding_rows, tokens_without_row
from bohdi_ray.errors import ConfigError
from bohdi_ray.training.weights.versions import _check_tokenizer

IDS = {"a": 0, "b": 1, "<eos>": 2, "<image>": 3, "c": 4}


def folder_with(tmp_path, num_rows, tokens, special=(), vocab_list=False, template="{{ messages }}", **config):
    vocab = [[token, 0.0] for token in tokens] if vocab_list else {token: number for number, token in enumerate(tokens)}
    added = [{"id": tokens.index(token), "content": token, "special": True} for token in special]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>", "chat_template": template}))
    (tmp_path / "config.json").write_text(json.dumps(config or {"vocab_size": num_rows}))
    return tmp_path


def test_ordinary_tokens_and_those_with_a_role_or_in_the_template_need_a_row():
    assert tokens_without_row(IDS, {"<eos>", "<image>"}, "no mark", {"eos_token": "<eos>"}, 2) == ["<eos>", "c"]
    assert tokens_without_row(IDS, {"<eos>", "<image>"}, "{{ '<image>' }}", {"eos_token": "<eos>"}, 3) == [
        "<image>",
        "c",
    ]


def test_a_special_token_that_no_text_holds_needs_none():
    # As in Gemma 3's text models: the token for images is behind the last row of the embedding.
    assert tokens_without_row({"a": 0, "<image>": 1}, {"<image>"}, "{{ messages }}", {"eos_token": "<eos>"}, 1) == []


@pytest.mark.parametrize("vocab_list", [False, True], ids=["bpe", "unigram"])
def test_a_folder_whose_tokenizer_is_larger_than_the_embedding_is_refused(tmp_path, vocab_list):
    folder = folder_with(tmp_path, 4, ["a", "b", "c", "<eos>", "added"], ["<eos>"], vocab_list)
    with pytest.raises(ConfigError, match=r"1 tokens, 'added' first, are beyond the last of 4 rows"):
        check_folder_vocabulary(folder, "target.model")


def test_a_folder_that_fits_and_one_that_does_not_tell_pass(tmp_path):
    check_folder_vocabulary(folder_with(tmp_path, 5, ["a", "b", "c", "<eos>"]), "target.model")
    (tmp_path / "tokenizer.json").write_text("not JSON")
    check_folder_vocabulary(tmp_path, "target.model")
    (tmp_path / "tokenizer.json").unlink()
    check_folder_vocabulary(tmp_path, "target.model")


def test_of_a_wrapper_the_rows_of_its_language_model_count(tmp_path):
    assert num_embedding_rows({"vocab_size": 9, "text_config": {"vocab_size": 7}}) == 7
    assert num_embedding_rows({"text_config": {}}) is None
    folder = folder_with(tmp_path, 0, ["a", "b", "<eos>"], text_config={"vocab_size": 2})
    with pytest.raises(ConfigError, match="'<eos>' first"):
        check_folder_vocabulary(folder, "sources.0.model")


@pytest.mark.parametrize("name", ["image_token", "pad_token", "boi_token"])
def test_a_name_alone_is_no_role_unless_the_template_writes_it(name):
    ids, special = {"a": 0, "<x>": 1}, {"<x>"}
    assert tokens_without_row(ids, special, "{{ messages }}", {name: "<x>"}, 1) == []
    assert tokens_without_row(ids, special, f"{{{{ {name} }}}}{{{{ messages }}}}", {name: "<x>"}, 1) == ["<x>"]
    assert tokens_without_row(ids, special, "{{ messages }}", {"eos_token": "<x>", name: "<x>"}, 1) == ["<x>"]


def test_gemma_3_as_published_fits_in_the_plan_and_in_training(tmp_path):
    words = tiny_families.FAMILIES["gemma-3-text"].words
    tokenizer = tiny_families.train_tokenizer(words)
    tiny_families.write_tokenizer(tiny_families.FAMILIES["gemma-3-text"], tokenizer, tmp_path)
    rows = tokenizer.get_vocab_size() - 1
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3_text", "vocab_size": rows}))
    assert tokenizer.token_to_id("<image_soft_token>") == rows
    check_folder_vocabulary(tmp_path, "target.model")
    _check_tokenizer(load_tokenizer(str(tmp_path)), _Rows(rows), str(tmp_path))
    with pytest.raises(ConfigError, match="larger than its embedding"):
        _check_tokenizer(load_tokenizer(str(tmp_path)), _Rows(rows - 1), str(tmp_path))


class _Rows:
    """A network of which only the embedding's shape is asked for."""

    def __init__(self, num_rows):
        self.weight = np.zeros((num_rows, 2))

    def get_input_embeddings(self):
        return self
