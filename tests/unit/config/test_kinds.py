"""Sections that come in kinds: the union, what is refused of it, and the modules that do what each kind says."""

import subprocess
import sys

import pytest

from bohdi_ray.config import JUDGES
from bohdi_ray.config.kinds.by_kind import modules_of
from bohdi_ray.config.loading import parse_config
from bohdi_ray.config.renamed import with_new_names
from bohdi_ray.errors import ConfigErrors

MODELS = {
    "sources": [{"name": "a", "model": "org/a"}, {"name": "b", "model": "org/b"}],
    "target": {"name": "t", "model": "org/t"},
}
# By section of the configuration: its table, and the room with a module for each kind.
TABLES = {
    "judge": ("bohdi_ray.config.kinds.judges.JUDGES", "bohdi_ray.harvest.judges"),
    "questions": ("bohdi_ray.config.kinds.questions.QUESTIONS", "bohdi_ray.questions"),
    "bandit": ("bohdi_ray.config.kinds.bandits.BANDITS", "bohdi_ray.tree.policies"),
}


def parsed(**sections):
    return parse_config({"run_dir": "x", **MODELS, **sections})


def refused(**sections):
    with pytest.raises(ConfigErrors) as caught:
        parsed(**sections)
    return {error.field: error for error in caught.value.errors}


def imported(*lines):
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("section", TABLES)
def test_a_kind_without_a_module_fails_when_its_room_is_imported(section):
    table, room = TABLES[section]
    module, _, name = table.rpartition(".")
    line = f"from {module} import {name}"
    assert imported(line, f"import {room}").returncode == 0
    done = imported(line, f"{name}['oracle'] = next(iter({name}.values()))", f"import {room}")
    assert done.returncode != 0
    assert f"the configuration has a kind oracle, and there is no module {room}.oracle for it" in done.stderr


def test_a_module_without_what_its_kind_does_is_refused():
    with pytest.raises(ImportError, match="judging must have `judge`"):
        modules_of({"judging": JUDGES["leader"]}, "bohdi_ray.harvest.judges", "judge")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        modules_of({"leader": JUDGES["leader"]}, "no_such_package", "judge")


def test_a_section_without_kind_is_of_the_default_kind():
    assert parsed(judge={"orders": 3}).judge == JUDGES["leader"](orders=3)
    assert parsed(judge={"kind": "consensus"}).judge == JUDGES["consensus"]()


def test_an_unknown_kind_is_refused_with_the_kinds_there_are():
    error = refused(judge={"kind": "oracle"})["judge.kind"]
    assert error.value == "oracle" and all(f"`{kind}`" in error.rule for kind in JUDGES) and "leader" in error.remedy
    assert len(str(refused(judge={"kind": "x" * 5000})["judge.kind"])) < 300, "a message, not a page"
    assert refused(judge={"kind": ["leader"]}).keys() == {"judge.kind"}
    assert refused(judge=3)["judge"].remedy == "It is: Choosing the best answer."


def test_a_setting_of_another_kind_is_refused_with_the_kinds_that_have_it():
    error = refused(judge={"kind": "likelihood", "orders": 2})["judge.orders"]
    assert error.value == 2 and error.rule == "`likelihood` has no such setting; `leader` and `others` have it"
    assert error.remedy == "Leave it out, or set judge.kind to one of them."
    error = refused(sources=[{"name": "a", "model": "org/a", "base_url": "http://host/v1"}])["sources.0.base_url"]
    assert error.rule == "`vllm` has no such setting; `openai` has it"
    assert error.remedy == "Leave it out, or set sources.0.kind to it."


def test_a_setting_of_no_kind_is_refused_with_the_nearest_one():
    assert refused(judge={"order": 2})["judge.order"].remedy == "Did you mean `orders`?"


@pytest.mark.parametrize("kind", JUDGES)
def test_a_judge_that_an_earlier_version_stored_is_read(kind):
    plain = with_new_names({"run_dir": "x", **MODELS, "judge": {"policy": kind, "orders": 1}})
    assert parse_config(plain).judge == JUDGES[kind]()


def test_the_old_name_of_a_kind_is_refused_with_the_new_one():
    assert refused(judge={"policy": "leader"})["judge.policy"].remedy == "Write judge.kind."
