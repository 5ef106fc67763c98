"""Rules of the configuration models that need more than one field."""

import pickle

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.loading import parse_config
from bohdi_ray.errors import ConfigErrors

SOURCE = {"name": "a", "model": "org/a"}
OTHER = {"name": "b", "model": "org/b"}
REMOTE = {"kind": "openai", "name": "r", "model": "m", "base_url": "http://host/v1"}
TARGET = {"name": "t", "model": "org/t"}


def fields_refused(sources=(SOURCE, OTHER), target=TARGET, **sections) -> dict[str, str]:
    plain = {"run_dir": "x", "sources": list(sources), "target": target, **sections}
    with pytest.raises(ConfigErrors) as caught:
        parse_config(plain)
    assert all(error.rule and error.remedy for error in caught.value.errors)
    return {error.field: error.rule for error in caught.value.errors}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [SOURCE, SOURCE]}, "sources.1.name"),
        ({"target": {**TARGET, "name": "a"}}, "target.name"),
        ({"target": {**TARGET, "name": "../evil"}}, "target.name"),
        ({"harvest": {"min_sources": 3}}, "harvest.min_sources"),
        ({"harvest": {"styles": []}}, "harvest.styles"),
        ({"sources": [SOURCE], "judge": {"kind": "others"}}, "judge.kind"),
        ({"sources": [SOURCE, REMOTE], "judge": {"kind": "likelihood"}}, "judge.kind"),
        ({"sources": [SOURCE], "judge": {"kind": "consensus"}}, "judge.kind"),
        ({"sources": [SOURCE], "judge": {"kind": "likelihood"}}, "judge.kind"),
        ({"sources": [{"name": f"s{i}", "model": "org/a"} for i in range(26)]}, "judge.kind"),
        ({"sources": [SOURCE, REMOTE], "judge": {"kind": "consensus"}}, "judge.kind"),
        ({"sources": [SOURCE, REMOTE], "sprout": {"min_support": 1}}, "sprout.min_support"),
        ({"sources": [SOURCE], "sprout": {"min_support": 2}}, "sprout.min_support"),
        ({"stop": {"cost": 1}}, "stop.cost"),
        ({"sources": [REMOTE], "stop": {"cost": 1}}, "stop.cost"),
        ({"stop": {"no_gain_rounds": 1}, "harvest": {"heldout_fraction": 0}}, "stop.no_gain_rounds"),
        ({"tree": {"depth": 2, "max_children": [3]}}, "tree"),
        ({"tree": {"depth": 2, "level_names": ["a"]}}, "tree"),
        ({"target": {**TARGET, "trust_remote_code": True}}, "target"),
        ({"target": {**TARGET, "trust_remote_code": True, "revision": "abc"}}, "target.trust_remote_code"),
        ({"target": {**TARGET, "resources": {"num_gpus": 1.5}}}, "target"),
        ({"target": {**TARGET, "resources": {"num_gpus": 1}, "engine": {"tensor_parallel_size": 2}}}, "target"),
        ({"sources": [{**SOURCE, "kind": "other"}]}, "sources.0.kind"),
        ({"target": {**TARGET, "replicas": 0}}, "target.replicas.min"),
        ({"target": {**TARGET, "replicas": {"min": 3, "max": 2}}}, "target.replicas"),
        ({"target": {**TARGET, "replicas": {"min": 3}}}, "target.replicas.max"),
        ({"target": {**TARGET, "resources": {"custom": {"GPU": 1}}}}, "target.resources.custom"),
        ({"target": {**TARGET, "resources": {"custom": {"h": 0}}}}, "target.resources.custom"),
        ({"target": {**TARGET, "resources": {"label_selector": {"a": "in(b"}}}}, "target.resources.label_selector"),
        ({"training": {"label_selector": {"a b": "c"}}}, "training.label_selector"),
    ],
)
def test_a_broken_rule_is_refused_at_its_field(arguments, field):
    assert field in fields_refused(**arguments)


def test_a_share_of_one_card_and_no_card_are_allowed():
    for num_gpus in (0, 0.5, 1):
        parse_config({"run_dir": "x", "sources": [SOURCE], "target": {**TARGET, "resources": {"num_gpus": num_gpus}}})


@pytest.mark.parametrize(
    ("replicas", "shown"),
    [
        (2, 2),
        ({"min": 2, "max": 2}, 2),
        ({"max": 3}, {"min": 1, "max": 3}),
        ({"min": 2, "max": 3}, {"min": 2, "max": 3}),
    ],
)
def test_replicas_are_a_number_or_a_range(replicas, shown):
    config = parse_config({"run_dir": "x", "sources": [SOURCE], "target": {**TARGET, "replicas": replicas}})
    assert config.model_dump(mode="json")["target"]["replicas"] == shown


def test_code_of_a_source_may_be_trusted():
    source = {**SOURCE, "trust_remote_code": True, "revision": "abc"}
    assert parse_config({"run_dir": "x", "sources": [source], "target": TARGET}).sources[0].trust_remote_code


def test_rules_between_sections_are_all_reported():
    found = fields_refused(harvest={"min_sources": 9}, stop={"cost": 3}, judge={"kind": "leader"})
    assert set(found) == {"harvest.min_sources", "stop.cost"}


def test_errors_and_configurations_survive_pickling():
    with pytest.raises(ConfigErrors) as caught:
        parse_config({"run_dir": "x", "sources": [SOURCE], "target": {**TARGET, "kind": {"a": 1}}})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    config = parse_config({"run_dir": "x", "sources": [SOURCE, REMOTE], "target": TARGET})
    assert pickle.loads(pickle.dumps(config)) == config
    assert FusionConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_setting_with_another_name_now_is_refused_with_it():
    with pytest.raises(ConfigErrors) as caught:
        parse_config({"run_dir": "x", "sources": [SOURCE], "target": TARGET, "training": {"replay": {"share": 0.1}}})
    assert [(error.field, error.remedy) for error in caught.value.errors] == [
        ("training.replay", "Write training.rehearsal.")
    ]
