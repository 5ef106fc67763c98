"""Chat templates are tried with the configured system prompt, the configured variables and prompts as of a harvest."""

import json
import sys

import pytest
from tiny_families import write_mistral_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

from bohdi_ray.config.loading import parse_config
from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer, tekken_template
from bohdi_ray.engines.chat.prompt_length import TokenCounter
from bohdi_ray.placement.capacity import Node
from bohdi_ray.preflight import preflight

PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NEMO = (  # the system prompt goes into the last user turn, or nowhere once an answer follows
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}[INST]{% if loop.last and system is defined %}{{ system }}\n\n"
    "{% endif %}{{ m.content }}[/INST]{% else %}{{ m.content }}<end>{% endif %}{% endfor %}"
)
R1 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}<end>"
    "{% else %}<U>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<A><think>\n{% endif %}"
)
UNSTABLE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<reply>{% endif %}"
)
WITHOUT_ANSWERS = "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}<assistant>"
SWITCHED = (
    PLAIN + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<no>{% endif %}"
)


SPACE = (  # the generation prompt ends in a space, which is a part of the answer's first token
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
DEMANDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('a system turn first') }}{% endif %}" + PLAIN


@pytest.fixture
def refused(make_model, tmp_path):
    """The fields and errors of a fusion whose source and target have these templates and settings."""

    def look(source=PLAIN, target=PLAIN, training=None, tokenizer=False, **settings):
        models_ = {"s": make_model("s"), "t": make_model("t")}
        for folder, template in zip(models_.values(), (source, target), strict=True):
            (folder / "chat_template.jinja").write_text(template)
            if tokenizer:
                bytewise(folder / "tokenizer.json")
        small = {"answer": {"max_tokens": 256}}
        plain = {name: {"name": name, "model": str(folder), "sampling": small} for name, folder in models_.items()}
        for name, own in settings.items():
            plain[name].update(own)
        config = {"run_dir": str(tmp_path / "run"), "sources": [plain["s"]], "target": plain["t"]}
        findings = preflight(parse_config({**config, "training": training or {}}), [Node("here", 64, memory_gb=64)])
        look.advice = findings.advice
        return {error.field: str(error) for error in findings.problems}

    return look


def bytewise(file):
    """A tokenizer with a token for every byte."""
    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(file))


@pytest.mark.parametrize("template", [PLAIN, NEMO, R1, SWITCHED, SPACE])
@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_templates_that_let_text_through_are_accepted(refused, template, system_prompt):
    own = {"system_prompt": system_prompt}
    assert refused(template, template, s=own, t=own) == {}


@pytest.mark.parametrize("template", ["<s>", "{{ messages }}", "{{ raise_exception('no') }}", "{% for m in %}"])
def test_a_template_from_which_no_question_comes_out_is_refused_for_source_and_target(refused, template):
    assert list(refused(source=template)) == ["sources.0.model"]


@pytest.mark.parametrize("template", ["<s>", "{{ messages }}", WITHOUT_ANSWERS, UNSTABLE])
def test_a_template_that_rows_cannot_be_made_with_is_refused_for_the_target(refused, template):
    (field,) = refused(target=template)
    assert field == "target.model"


@pytest.mark.parametrize("word", ["thinking models differ", "reasoning_effort"])
def test_a_word_about_thinking_makes_no_rows(refused, word):
    assert "prefix-stable" in refused(target="{# " + word + " #}" + UNSTABLE)["target.model"]


def test_a_template_that_demands_a_system_turn_is_fine_with_a_system_prompt(refused):
    own = {"system_prompt": "Be brief."}
    assert refused(DEMANDS_SYSTEM, DEMANDS_SYSTEM, s=own, t=own) == {}


def test_a_template_that_demands_a_system_turn_is_refused_without_a_system_prompt(refused):
    found = refused(DEMANDS_SYSTEM, s={"system_prompt": None})
    assert list(found) == ["sources.0.model"] and "a system turn first" in found["sources.0.model"]


@pytest.mark.parametrize("version", ["tekken_240911.json"])
def test_a_folder_with_mistrals_tokenizer_alone_has_the_template_that_loading_gives_it(make_model, version):
    folder = make_model("mistral", without=("tokenizer", "chat_template"))
    write_mistral_tokenizer(folder, version)
    made, loaded = tekken_template(folder), load_tokenizer(str(folder))
    asked = [{"role": "user", "content": "Hi"}]
    assert made is not None and made(asked, add_generation_prompt=True) == loaded.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True
    )
    source = {"name": "s", "model": str(folder), "sampling": {"answer": {"max_tokens": 64}}}
    plain = {"run_dir": f"{folder}-run", "sources": [source], "target": {"name": "t", "model": "org/t"}}
    assert preflight(parse_config(plain), None).problems == []
    (folder / "tekken.json").write_text("{}")
    (error,) = preflight(parse_config(plain), None).problems
    assert "no chat template" in error.rule


def test_without_vllms_packages_such_a_folder_is_looked_at_all_the_same(make_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mistral_common", None)
    monkeypatch.setitem(sys.modules, "mistral_common.integrations.chat_templates.chat_templates", None)
    folder = make_model("mistral", without=("tokenizer", "chat_template"))
    (folder / "tekken.json").write_text("{}")
    assert tekken_template(folder) is None


@pytest.mark.parametrize("template", [WITHOUT_ANSWERS, UNSTABLE])
def test_a_source_needs_no_template_for_rows(refused, template):
    assert refused(source=template) == {}


def test_a_variable_that_the_template_does_not_read_is_refused_at_its_place(refused):
    wrong = {"chat_template_kwargs": {"enable_thinkin": False}}
    assert list(refused(SWITCHED, t=wrong)) == ["target.chat_template_kwargs"]


def test_a_variable_of_one_role_is_refused_there(refused):
    sampling = {"answer": {"max_tokens": 256}, "judge": {"chat_template_kwargs": {"effort": "low"}}}
    assert list(refused(s={"sampling": sampling})) == ["sources.0.sampling.judge.chat_template_kwargs"]


def test_variables_that_the_template_reads_reach_it(refused):
    picky = PLAIN + "{% if mode is defined and mode == 'loud' %}{{ raise_exception('too loud') }}{% endif %}"
    assert refused(picky, s={"chat_template_kwargs": {"mode": "calm"}}) == {}


def test_variables_with_which_no_question_comes_out_are_refused(refused):
    picky = PLAIN + "{% if mode is defined and mode == 'loud' %}{{ raise_exception('too loud') }}{% endif %}"
    assert "too loud" in refused(picky, s={"chat_template_kwargs": {"mode": "loud"}})["sources.0.model"]


def test_a_max_length_under_every_prompt_is_refused(refused):
    found = refused(training={"max_length": 48}, tokenizer=True)
    assert "every row would be rejected" in found["training.max_length"] and list(found) == ["training.max_length"]


def test_a_system_prompt_that_fills_max_length_is_refused(refused):
    found = refused(training={"max_length": 512}, tokenizer=True, t={"system_prompt": "Be brief. " * 60})
    assert list(found) == ["training.max_length"] and "target.system_prompt" in found["training.max_length"]


def test_a_max_length_that_leaves_next_to_nothing_for_answers_is_told(refused):
    assert refused(training={"max_length": 120}, tokenizer=True) == {}
    (line,) = refused.advice
    assert "max_length 120" in line


def test_a_window_under_every_prompt_is_refused(refused):
    own = {"engine": {"max_model_len": 300}, "system_prompt": "Be brief. " * 40}
    small = {role: {"max_tokens": 8} for role in ("sprout", "question", "answer", "judge")}
    found = refused(tokenizer=True, s={**own, "sampling": small})
    assert "prompt has" in found["sources.0.engine.max_model_len"]


@pytest.mark.parametrize("content", [None, "{}"])
def test_without_a_tokenizer_that_can_be_read_here_nothing_is_guessed(refused, content):
    assert refused(training={"max_length": 48}) == {}, "its tokenizer.json holds nothing"


def test_most_texts_are_known_to_fit_without_the_tokenizer(tmp_path):
    counter = TokenCounter(tmp_path)
    assert counter.fits("a" * 100, 200) and counter.fits("a" * 1000, 200) and counter.count("a") is None
    bytewise(tmp_path / "tokenizer.json")
    counter = TokenCounter(tmp_path)
    assert counter.fits("a" * 199, 200) and not counter.fits("a" * 200, 200) and counter.count("äb") == 3


def test_prompts_of_ones_own_count_for_the_length(make_model, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "answer.jinja").write_text("Think well. " * 100 + "{{ question }}")
    folder = make_model()
    bytewise(folder / "tokenizer.json")
    model = {"model": str(folder), "sampling": {"answer": {"max_tokens": 64}}}
    plain = {"run_dir": str(tmp_path / "run"), "sources": [{"name": "s", **model}], "target": {"name": "t", **model}}
    sections = {"harvest": {"prompts": str(prompts)}, "training": {"max_length": 512}}
    found = preflight(parse_config({**plain, **sections}), None).problems
    assert [error.field for error in found] == ["training.max_length"]
    assert json.dumps(found[0].value) == "512"
