"""Chat templates tried with text that must come out again, and the template of a folder found as transformers does."""

import json

import pytest

from bohdi_ray.engines.chat.folder_template import FolderTemplate, render_of, template_of
from bohdi_ray.engines.chat.template_trial import ARRANGEMENTS, ChatShape, shape_of, trial
from bohdi_ray.errors import ConfigError

PLAIN = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PARTS = (  # idefics3's way: a text has no parts of type text
    "{% for m in messages %}<{{ m.role }}>{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SELECTED = (  # llava-next's way; the answer inside a generation block
    "{% for m in messages %}{{ m['role'] }}: "
    "{% if m['role'] != 'assistant' %}{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' ' }}{% endfor %}{% else %}{% generation %}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}"
    "{% endgeneration %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
USER_PARTS = (  # content of a user is a list, all others are texts
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'user' %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
LAST_USER = (  # Mistral Nemo's way: the system prompt goes into the user turn that comes last
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}<s>"
    "{% for m in rest %}{% if m.role == 'user' %}[INST]{% if loop.last and system is defined %}{{ system }}\n\n"
    "{% endif %}{{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
OPENS_THINKING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}<end>"
    "{% else %}<U>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<A><think>\n{% endif %}"
)
ALL_ROLES = frozenset({"system", "user", "assistant"})


def renderer(template, **tokens):
    return FolderTemplate(template, tokens)


@pytest.mark.parametrize(
    ("template", "shape"),
    [
        (PLAIN, ChatShape()),
        (PARTS, ChatShape(parts=ALL_ROLES)),
        (SELECTED, ChatShape(parts=ALL_ROLES)),
        (USER_PARTS, ChatShape(parts=frozenset({"user"}))),
        (NO_SYSTEM, ChatShape(folded=True)),
        (LAST_USER, ChatShape(folded=True)),
        (OPENS_THINKING, ChatShape()),
    ],
)
def test_a_template_is_asked_in_the_way_that_lets_text_through(template, shape):
    render = renderer(template)
    assert shape_of(render) == shape
    found = trial(render, "Be brief.", is_target=True)
    assert found.shape == shape and "Be brief." in found.prompt
    text = render(shape.messages("Be brief.", "Why?"), add_generation_prompt=True)
    assert "Why?" in text and "Be brief." in text and "'text'" not in text


@pytest.mark.parametrize("roles", ARRANGEMENTS)
def test_every_set_of_roles_may_want_parts(roles):
    wants = ", ".join(f"'{role}'" for role in sorted(roles))
    template = (
        f"{{% for m in messages %}}<{{{{ m.role }}}}>{{% if m.role in [{wants}] %}}{{% for part in m.content %}}"
        "{{ part.text }}{% endfor %}{% else %}{{ m.content }}{% endif %}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    found = trial(renderer(template), "Be brief.", is_target=True)
    assert found.is_stable and found.shape.parts - {"system"} == roles - {"system"}


def test_all_sets_of_roles_are_tried():
    assert len(set(ARRANGEMENTS)) == len(ARRANGEMENTS) == 2**3


def test_a_template_that_demands_a_system_turn_is_tried_with_one():
    demands = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + PLAIN
    found = trial(renderer(demands), "Be brief.", is_target=True)
    assert found.shape == ChatShape(least_system="You are a helpful assistant.") and found.is_stable
    with pytest.raises(ConfigError, match="system first"):
        trial(renderer(demands), None)


@pytest.mark.parametrize(
    "template",
    [
        "<s>{{ bos_token }}<assistant>",
        "{% for m in messages %}{{ m.content | length }}{% endfor %}",
        "{% for m in messages %}{{ m.content | e }}{% endfor %}",
        "{% for m in messages %}{{ m.content.missing.other }}{% endfor %}",
        "{{ raise_exception('only tools') }}",
        "{% for m in messages %}",
    ],
)
def test_a_template_from_which_no_question_comes_out_is_refused(template):
    with pytest.raises(ConfigError) as raised:
        trial(renderer(template), None, field="sources.0.model", value="/models/x")
    assert raised.value.field == "sources.0.model" and "question" in raised.value.rule


def test_a_template_that_drops_answers_is_good_for_a_source_and_refused_for_a_target():
    drops = "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}<assistant>"
    found = trial(renderer(drops), None)
    assert found.conversation is None and not found.is_stable
    with pytest.raises(ConfigError, match="loses the answer"):
        trial(renderer(drops), None, is_target=True)


def test_a_system_prompt_that_the_template_changes_is_refused():
    escapes = "{% for m in messages %}{{ m.content | replace('$', 'S') }}{% endfor %}"
    assert trial(renderer(escapes), "Be brief.").prompt
    with pytest.raises(ConfigError, match="system prompt"):
        trial(renderer(escapes), "Costs $5.")


def test_a_prompt_that_opens_the_answer_is_told_from_a_stable_one():
    found = trial(renderer(OPENS_THINKING), None, is_target=True)
    assert not found.is_stable and found.prompt.endswith("<think>\n")
    assert trial(renderer(PLAIN), None).is_stable


def test_variables_of_the_template_reach_it():
    switch = (
        PLAIN + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<no>{% endif %}"
    )
    assert trial(renderer(switch), None, kwargs={"enable_thinking": False}).prompt.endswith("<no>")
    assert not trial(renderer(switch), None).prompt.endswith("<no>")


def test_what_templates_are_written_for_is_there():
    uses = (
        "{% for m in messages %}{% if loop.index0 > 4 %}{% break %}{% endif %}{{ m.content }}{% endfor %}\n"
        "    {% set x = namespace(n=1) %}{{ strftime_now('%Y') }}{{ {'a': '<ä>'} | tojson }}{{ missing }}"
        "{{ bos_token }}"
    )
    text = renderer(uses, bos_token="<s>")([{"role": "user", "content": "Q"}], add_generation_prompt=True)
    assert text.startswith("Q") and '{"a": "<ä>"}<s>' in text


def test_a_template_cannot_reach_out_of_its_sandbox():
    with pytest.raises(ConfigError):
        trial(renderer("{{ messages.__class__.__mro__ }}{{ messages[0].content }}" + "{{ messages.append(1) }}"), None)


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json").replace("_jinja", ".jinja")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_template_is_found_where_transformers_finds_it(tmp_path):
    assert template_of(tmp_path) is None
    write(tmp_path, chat_template_json={"chat_template": "legacy"})
    assert template_of(tmp_path) == "legacy"
    write(tmp_path, tokenizer_config_json={"chat_template": "config"})
    assert template_of(tmp_path) == "config"
    named = [{"name": "default", "template": "one of several"}, {"name": "tool_use", "template": "tools"}]
    write(tmp_path, tokenizer_config_json={"chat_template": named})
    assert template_of(tmp_path) == "one of several"
    write(tmp_path, chat_template_jinja="file")
    assert template_of(tmp_path) == "file"
    write(tmp_path, additional_chat_templates__rag_jinja="other")
    assert template_of(tmp_path) == "file"
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="none of them is the default"):
        template_of(tmp_path)


def test_named_tokens_come_from_the_folders_files(tmp_path):
    write(
        tmp_path,
        chat_template_jinja="{{ bos_token }}{{ image_token }}{{ eos_token }}",
        special_tokens_map_json={"bos_token": {"content": "<old>"}, "eos_token": {"content": "</s>"}},
        tokenizer_config_json={"bos_token": "<s>", "extra_special_tokens": {"image_token": "<image>"}},
    )
    assert render_of(tmp_path)([], add_generation_prompt=False) == "<s><image></s>"


@pytest.mark.parametrize("content", ["{", "[1]", '{"chat_template": ""}'])
def test_damaged_or_empty_files_are_refused_with_a_remedy(tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ConfigError) as raised:
        render_of(tmp_path)
    assert raised.value.remedy
