"""Reading configurations: overrides, paths, and errors a person can act on."""

from datetime import datetime
from pathlib import Path

import pytest
import yaml

from bohdi_ray.config import OpenAIModel, VllmModel
from bohdi_ray.config.loading import dump_config, load_config, parse_config
from bohdi_ray.config.run_naming import with_run_dir
from bohdi_ray.errors import ConfigErrors

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "jobs" / "configs").glob("*.yaml"))


def minimal(**changes):
    plain = {
        "run_dir": "runs/x",
        "sources": [{"name": "a.b", "model": "org/a"}, {"name": "b", "model": "org/b"}],
        "target": {"name": "t", "model": "org/t"},
    }
    return {**plain, **changes}


def written(folder: Path, plain) -> Path:
    path = folder / "fusion.yaml"
    path.write_text(plain if isinstance(plain, str) else yaml.safe_dump(plain))
    return path


def errors_of(action, *args) -> dict:
    with pytest.raises(ConfigErrors) as caught:
        action(*args)
    return {error.field: error for error in caught.value.errors}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).sources


def test_the_paper_configuration_has_the_papers_values():
    config = load_config(ROOT / "jobs/configs/paper.yaml")
    assert (config.meditation.steps, config.meditation.walks_per_step) == (3, 30)
    assert (config.enlightenment.steps, config.enlightenment.rows_per_step) == (3, 60)
    assert (config.bandit.window, config.bandit.threshold, config.tree.depth) == (20, 0.2, 3)
    assert [source.temperature for source in config.sources] == [0.7, 0.15, 0.7]
    assert (config.target.temperature, config.training.learning_rate) == (0.6, 5e-6)
    assert (config.harvest.max_staleness, config.harvest.step_lag, config.sprout.reuse_ballots) == (0, 0, False)
    assert not config.sprout.vary_initials
    assert (config.training.global_batch_size, config.training.max_length) == (128, 8192)
    assert config.training.reset_optimizer and config.harvest.heldout_fraction == 0
    for model in (*config.sources, config.target):
        assert (model.sampling_of("answer").top_p, model.sampling_of("answer").max_tokens) == (0.8, 4096)
        assert model.sampling_of("sprout").top_p == model.sampling_of("question").top_p == 0.95


def test_what_is_dumped_loads_to_the_same_configuration():
    config = load_config(ROOT / "jobs/configs/quickstart.yaml")
    assert parse_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize(
    ("override", "get", "expected"),
    [
        ("stop.rounds=3", lambda c: c.stop.rounds, 3),
        ("sources.1.engine.max_model_len=1024", lambda c: c.sources[1].engine.max_model_len, 1024),
        ("sources.b.system_prompt='Be brief: now.'", lambda c: c.sources[1].system_prompt, "Be brief: now."),
        ("sources.a.b.temperature=0.1", lambda c: c.sources[0].temperature, 0.1),
        ("tree.max_children=[3, 2, 1]", lambda c: c.tree.max_children, (3, 2, 1)),
        ("training.learning_rate=2e-4", lambda c: c.training.learning_rate, 2e-4),
        ("stop={rounds: 2, samples: 9}", lambda c: (c.stop.rounds, c.stop.samples), (2, 9)),
        ("target.system_prompt=a=b", lambda c: c.target.system_prompt, "a=b"),
    ],
)
def test_an_override_sets_one_value(tmp_path, override, get, expected):
    assert get(load_config(written(tmp_path, minimal()), [override])) == expected


def test_numbers_in_exponent_form_are_numbers_where_any_value_is_allowed(tmp_path):
    override = "training.deepspeed.zero_optimization.reduce_bucket_size=5e8"
    config = load_config(written(tmp_path, minimal()), [override])
    assert config.training.deepspeed == {"zero_optimization": {"reduce_bucket_size": 5e8}}


def test_an_override_of_one_model_leaves_others_that_share_a_yaml_alias(tmp_path):
    text = """
run_dir: x
sources:
  - {name: a, model: org/a, engine: &engine {max_model_len: 512}}
  - {name: b, model: org/b, engine: *engine}
target: {name: t, model: org/t}
"""
    config = load_config(written(tmp_path, text), ["sources.a.engine.max_model_len=1024"])
    assert [source.engine.max_model_len for source in config.sources] == [1024, 512]


@pytest.mark.parametrize(
    ("override", "field", "words"),
    [
        ("stop.rounds", "override", "key.path=value"),
        ("=3", "override", "key.path=value"),
        ("stop..rounds=3", "override", "key.path=value"),
        ("sources.7.temperature=1", "sources.7.temperature", "0, 1, a.b, b"),
        ("sources.c.temperature=1", "sources.c.temperature", "0, 1, a.b, b"),
        ("run_dir.x=1", "run_dir.x", "no settings below"),
        ("stop.rounds=[1", "stop.rounds", "not valid YAML"),
        ("stop.rounds=!!python/object/apply:os.getcwd []", "stop.rounds", "not valid YAML"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(tmp_path, override, field, words):
    assert words in str(errors_of(load_config, written(tmp_path, minimal()), [override])[field])


@pytest.mark.parametrize(
    ("override", "field", "suggestion"),
    [
        ("stop.roundz=3", "stop.roundz", "Did you mean `rounds`?"),
        ("stpo.rounds=3", "stpo", "Did you mean `stop`?"),
        ("sources.b.engine.max_model_length=9", "sources.1.engine.max_model_length", "`max_model_len`"),
        ("target.sampling.answer.max_token=9", "target.sampling.answer.max_token", "`max_tokens`"),
        ("target.engine.swap_space=4", "target.engine.swap_space", "Put other vLLM arguments under engine.extra."),
        ("judge.zzz=1", "judge.zzz", "Known here: kind, orders."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path, override, field, suggestion):
    error = errors_of(load_config, written(tmp_path, minimal()), [override])[field]
    assert suggestion in error.remedy


def test_everything_wrong_is_reported_at_once(tmp_path):
    overrides = ["target.temperature=-1", "harvest.max_staleness=3", "sources.0.enginee={}", "sources.1.kind=vlm"]
    errors = errors_of(load_config, written(tmp_path, minimal()), overrides)
    assert set(errors) == {"target.temperature", "harvest.max_staleness", "sources.0.enginee", "sources.1.kind"}
    assert "greater than or equal to 0" in errors["target.temperature"].rule
    assert "Temperature of all roles" in errors["target.temperature"].remedy
    assert errors["sources.1.kind"].value == "vlm"


def test_missing_parts_are_named_with_what_they_are(tmp_path):
    errors = errors_of(load_config, written(tmp_path, {"run_dir": "x", "sources": [{"name": "a"}]}))
    assert set(errors) == {"sources.0.model", "target"}
    assert "hub id" in errors["sources.0.model"].remedy


@pytest.mark.parametrize(
    "remote",
    [
        {"api_key": "sk-verysecret"},
        {"apikey": "sk-verysecret"},
        {"api_key": ["sk-verysecret"]},
        {"api_key": "sk-verysecret", "temperature": -1},
    ],
)
def test_a_secret_written_into_the_file_is_refused_and_not_repeated(tmp_path, remote):
    source = {"kind": "openai", "name": "r", "model": "m", "base_url": "http://127.0.0.1:1/v1", **remote}
    with pytest.raises(ConfigErrors) as caught:
        load_config(written(tmp_path, minimal(sources=[source])))
    assert "verysecret" not in str(caught.value)


def test_a_user_and_password_in_an_address_are_refused(tmp_path):
    source = {"kind": "openai", "name": "r", "model": "m", "base_url": "http://me:pass@host/v1"}
    assert "sources.0.base_url" in errors_of(load_config, written(tmp_path, minimal(sources=[source])))


def test_kind_decides_which_keys_a_source_has():
    remote = {"kind": "openai", "name": "r", "model": "m", "base_url": "https://host/v1", "api_key": "env:KEY"}
    config = parse_config(minimal(sources=[{"name": "a", "model": "org/a"}, remote]))
    assert [type(source) for source in config.sources] == [VllmModel, OpenAIModel]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("seed: 1\nseed: 2\n", "'seed' is given twice"),
        ("x: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, words):
    assert words in str(errors_of(load_config, written(tmp_path, text))["CONFIG"])


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    assert "cannot be read" in errors_of(load_config, tmp_path / "none.yaml")["CONFIG"].rule
    assert "cannot be read" in errors_of(load_config, tmp_path)["CONFIG"].rule
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in errors_of(load_config, tmp_path / "binary.yaml")["CONFIG"].rule


def test_paths_in_the_file_are_beside_it_and_those_in_overrides_below_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    plain = minimal(
        sources=[
            {"name": "a", "model": "./models/a"},
            {"name": "b", "model": "local"},
            {"name": "c", "model": "org/c"},
        ],
        tree={"seed": "seed.yaml"},
        harvest={"prompts": "../prompts"},
    )
    config = load_config(written(tmp_path / "conf", plain), ["target.model=../mine"])
    assert [source.model for source in config.sources] == [
        str(tmp_path / "conf/models/a"),
        str(tmp_path / "conf/local"),
        "org/c",
    ]
    assert config.target.model == str(tmp_path / "mine")
    assert config.tree.seed == str(tmp_path / "conf/seed.yaml")
    assert config.harvest.prompts == str(tmp_path / "prompts")
    assert config.run_dir == str(tmp_path / "work/runs/x")


def test_a_model_of_the_cache_is_looked_up_there(tmp_path, monkeypatch):
    monkeypatch.setenv("BOHDI_CACHE", str(tmp_path / "cache"))
    config = load_config(ROOT / "jobs/configs/quickstart.yaml")
    assert config.target.model.startswith(str(tmp_path / "cache"))
    assert config.target.model.endswith("SmolLM2-135M-Instruct-22-layers")


def test_a_remote_run_directory_is_left_as_it_is_and_time_is_filled_in():
    config = with_run_dir(parse_config(minimal(run_dir="s3://bucket/run-{time}")), datetime(2026, 1, 2, 3, 4, 5))
    assert config.run_dir == "s3://bucket/run-20260102-030405"


def test_what_a_run_stored_under_old_names_is_read_and_what_a_person_writes_so_is_refused(tmp_path):
    model = {"name": "a", "model": "org/a"}
    plain = {
        "run_dir": "/x",
        "sources": [model],
        "target": {**model, "name": "t"},
        "training": {"replay": {"share": 0.1}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**plain, "judge": {"policy": "leader", "orders": 2}}))
    stored = load_config(tmp_path / "config.yaml", of_run=True)
    assert (stored.training.rehearsal.share, stored.judge.kind, stored.judge.orders) == (0.1, "leader", 2)
    with pytest.raises(ConfigErrors, match=r"Write training\.rehearsal"):
        load_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigErrors, match=r"Write judge\.kind"):
        load_config(tmp_path / "config.yaml", ["judge.policy=others"], of_run=True)
