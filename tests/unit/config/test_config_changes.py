"""Which settings may change when a run is resumed."""

from fnmatch import fnmatchcase

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.changes import HARMLESS, Change, _flat, changes

MODEL = {"kind": "vllm", "model": "/m"}


def config(**sections) -> FusionConfig:
    plain = {
        "run_dir": "/run",
        "sources": [{"name": "ada", **MODEL}, {"name": "bob", **MODEL}],
        "target": {"name": "target", **MODEL},
        **sections,
    }
    return FusionConfig.model_validate(plain)


@pytest.mark.parametrize(
    ("sections", "harmless"),
    [
        ({"stop": {"rounds": 40}}, ["stop.rounds"]),
        ({"run_dir": "/moved", "deadlines": {"drain_s": 5}}, ["deadlines.drain_s", "run_dir"]),
        ({"training": {"num_workers": 2, "resources_per_worker": {"CPU": 2}}}, None),
        ({"target": {"name": "target", **MODEL, "replicas": 3, "resources": {"num_cpus": 4}}}, None),
    ],
)
def test_where_how_long_and_how_much_to_keep_may_change(sections, harmless):
    found = changes(config(), config(**sections))
    assert found and all(change.harmless for change in found)
    assert harmless is None or [change.field for change in found] == harmless


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"seed": 1}, "seed"),
        ({"tree": {"depth": 2}}, "tree.depth"),
        ({"harvest": {"step_lag": 0}}, "harvest.step_lag"),
        ({"training": {"learning_rate": 1.0}}, "training.learning_rate"),
        (
            {"sources": [{"name": "ada", **MODEL, "temperature": 1.0}, {"name": "bob", **MODEL}]},
            "sources.ada.temperature",
        ),
        ({"sources": [{"name": "bob", **MODEL}, {"name": "ada", **MODEL}]}, "sources"),
        ({"target": {"name": "target", "kind": "vllm", "model": "/other"}}, "target.model"),
    ],
)
def test_what_the_samples_and_weights_follow_from_may_not(sections, field):
    found = changes(config(), config(**sections))
    assert [change.field for change in found] == [field]
    assert not found[0].harmless


def test_a_new_source_shows_with_all_its_settings():
    third = [{"name": name, **MODEL} for name in ("ada", "bob", "cyd")]
    found = changes(config(), config(sources=third))
    assert Change("sources", "ada, bob", "ada, bob, cyd") in found
    assert any(change.field == "sources.cyd.model" and change.before == "absent" for change in found)
    assert str(found[0]) == "sources: ada, bob -> ada, bob, cyd"


def test_nothing_changed():
    assert changes(config(), config()) == []


def test_every_pattern_names_a_setting_there_is():
    """A field that was renamed must not stay in the list under its old name."""
    remote = {"kind": "openai", "name": "far", "model": "m", "base_url": "http://h/v1", "api_key": "env:KEY"}
    ada = {"name": "ada", **MODEL, "resources": {"num_cpus": 1}, "replicas": {"max": 2}}
    training = {"label_selector": {"region": "a"}}
    fields = _flat(config(sources=[ada, remote], training=training))
    fields |= _flat(config(questions={"kind": "corpus", "files": ["a.jsonl"]}))
    for pattern in HARMLESS:
        assert any(fnmatchcase(field, pattern) for field in fields), pattern
