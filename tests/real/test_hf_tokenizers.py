"""Tokenizers of folders as publishers lay them out: the one their tokenizer.json holds, with their chat template.

Over transformers and Mistral's real files; no model is loaded.
"""

import json

import pytest
from tiny_families import FAMILIES, train_tokenizer, write_json, write_mistral_tokenizer, write_tokenizer
from tokenizers import Tokenizer

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer, model_tokenizer
from bohdi_ray.engines.chat.rendering import chat_shape, render_chat
from bohdi_ray.engines.chat.template_trial import render_of
from bohdi_ray.training.batches.encoding import EncodedRow, Encoder

TEXT = "Why is the sky blue?\n\n\tdef f(x_1):  # 你好, über 3.14\n"
MISTRAL_TYPES = {"mistral-nemo": "mistral", "mistral-small-2501": "mistral", "mistral-7b-v0.3": "mistral"}
TYPES = MISTRAL_TYPES | {
    "r1-distill-llama": "llama",
    "smollm2": "llama",
    "qwen2.5-vl": "qwen2_5_vl",
    "qwen2.5": "qwen2",
}


def folder_of(name, tmp_path, tokenizer_file=None):
    """A folder with the tokenizer and config.json of a family, and Mistral's own tokenizer beside it if named."""
    family = FAMILIES[name]
    tmp_path.mkdir(exist_ok=True)
    write_tokenizer(family, train_tokenizer(family.words), tmp_path)
    write_json(tmp_path / "config.json", {"model_type": TYPES.get(name, "mistral")})
    if tokenizer_file:
        write_mistral_tokenizer(tmp_path, tokenizer_file)
    return tmp_path


def as_vllm_loads(found, folder, scratch):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(found.folder_for_vllm(str(scratch)) or str(folder), mistral_format=False)


@pytest.mark.parametrize(
    ("name", "tokenizer_file", "is_mended"),
    [
        ("mistral-small-2501", "tekken_240911.json", False),
        ("mistral-nemo", "tekken_240718.json", False),
        ("mistral-7b-v0.3", "mistral_instruct_tokenizer_240323.model.v3", False),
        ("r1-distill-llama", None, True),  # names LlamaTokenizerFast, which loses every space
        ("smollm2", None, False),
        ("qwen2.5-vl", None, True),  # keeps its template in chat_template.json
        ("qwen2.5", None, False),
    ],
)
def test_a_folder_gives_its_own_tokens_and_template(tmp_path, name, tokenizer_file, is_mended):
    folder = folder_of(name, tmp_path / "model", tokenizer_file)
    found = model_tokenizer(str(folder))
    assert found.is_mended == is_mended
    for tokenizer in (found.tokenizer, as_vllm_loads(found, folder, tmp_path)):
        ids = tokenizer.encode(TEXT, add_special_tokens=False)
        assert tokenizer.decode(ids) == TEXT
        assert ids == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
        shape = chat_shape(tokenizer)
        text = render_chat(tokenizer, "Be brief.", "Why?", shape)
        assert text == render_of(folder)(shape.messages("Be brief.", "Why?"), add_generation_prompt=True)


def test_transformers_alone_takes_mistrals_tokenizer_which_tells_no_control_tokens(tmp_path):
    """Why the function is there: what the same folder gives without it."""
    from transformers import AutoTokenizer

    folder = folder_of("mistral-small-2501", tmp_path, "tekken_240911.json")
    alone, ours = AutoTokenizer.from_pretrained(str(folder)), load_tokenizer(str(folder))
    assert type(alone).__name__ == "MistralCommonBackend" and not getattr(alone, "chat_template", None)
    assert ours.chat_template == FAMILIES["mistral-small-2501"].template


def test_a_tekken_file_alone_is_converted_and_comes_with_a_template(tmp_path):
    write_mistral_tokenizer(tmp_path, "tekken_240911.json")
    write_json(tmp_path / "config.json", {"model_type": "mistral"})
    (tmp_path / "scratch").mkdir()
    found = model_tokenizer(str(tmp_path))
    assert found.is_mended
    for tokenizer in (found.tokenizer, as_vllm_loads(found, tmp_path, tmp_path / "scratch")):
        assert tokenizer.decode(tokenizer.encode(TEXT, add_special_tokens=False)) == TEXT
        text = render_chat(tokenizer, "Be brief.", "Why?", chat_shape(tokenizer))
        assert text.startswith("<s>") and "Be brief." in text and "[INST]" in text
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert load_tokenizer(str(tmp_path)).chat_template.startswith("{% for m in messages")


@pytest.mark.parametrize("name", ["mistral-small-2501", "mistral-nemo", "mistral-7b-v0.3"])
def test_mistrals_folders_teach_answers_with_a_system_prompt(tmp_path, name):
    """tekken.json no longer hides the template, and a system prompt that Nemo's drops stays in the prompt."""
    encoder = Encoder(load_tokenizer(str(folder_of(name, tmp_path, "tekken_240911.json"))), "Be brief.", 200)
    row = encoder.encode("Why?", "Because.")
    assert isinstance(row, EncodedRow) and row.num_answer_tokens > 1
    assert "Be brief." in encoder._tokenizer.decode(row.ids[: row.num_prompt])


@pytest.mark.long(30)
def test_mistrals_real_tekken_file_is_converted_whole(tmp_path):
    from pathlib import Path

    import mistral_common
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    file = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    (tmp_path / "tekken.json").write_bytes(file.read_bytes())
    write_json(tmp_path / "config.json", {"model_type": "mistral"})
    tokenizer = load_tokenizer(str(tmp_path))
    own = Tekkenizer.from_file(str(file))
    assert tokenizer.encode(TEXT, add_special_tokens=False) == own.encode(TEXT, bos=False, eos=False)
    assert len(tokenizer) == json.loads(file.read_text("utf-8"))["config"]["default_vocab_size"]
