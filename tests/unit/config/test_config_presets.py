"""`preset: paper`: what it sets, who wins over it, and that a resolved configuration keeps it."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bohdi_ray.cli import main
from bohdi_ray.config import BANDITS, FusionConfig
from bohdi_ray.config.loading import dump_config, load_config, parse_config
from bohdi_ray.config.presets import PRESETS, changed_settings
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.records import ROLES

PAPER = Path(__file__).parents[3] / "jobs/configs/paper.yaml"
QUICKSTART = PAPER.with_name("quickstart.yaml")

# The paper's configuration without the preset, every value written out.
EXPLICIT = """
run_dir: runs/paper-{time}
seed: 0
sources:
  - {name: qwen2.5-14b, model: Qwen/Qwen2.5-14B-Instruct, temperature: 0.7, dtype: bfloat16,
     engine: {max_model_len: 24576}, resources: {num_gpus: 1}}
  - {name: mistral-small-24b, model: mistralai/Mistral-Small-24B-Instruct-2501, temperature: 0.15, dtype: bfloat16,
     engine: {max_model_len: 24576}, resources: {num_gpus: 1}}
  - {name: phi-4, model: microsoft/phi-4, temperature: 0.7, dtype: bfloat16,
     engine: {max_model_len: 16384}, resources: {num_gpus: 1}}
target: {name: llama-3.1-8b, model: meta-llama/Llama-3.1-8B-Instruct, temperature: 0.6, dtype: bfloat16,
         engine: {max_model_len: 8192}, resources: {num_gpus: 1}}
tree: {depth: 3}
sprout: {proposals_per_source: 5, max_failures: 10, reuse_ballots: false, vary_initials: false}
bandit: {kind: dynabranches, window: 20, threshold: 0.2, introspection: true}
meditation: {steps: 3, walks_per_step: 30}
enlightenment: {steps: 3, rows_per_step: 60}
harvest:
  min_question_chars: 30
  min_answer_chars: 30
  length_unit: characters
  question_attempts: 1
  heldout_fraction: 0
  max_staleness: 0
  step_lag: 0
  max_tasks_in_flight: 30
  tickets_per_task: 1
judge: {kind: leader, orders: 1}
training:
  learning_rate: 5.0e-6
  global_batch_size: 128
  micro_batch_size: 1
  max_length: 8192
  gradient_clipping: 1.0
  gradient_checkpointing: true
  dtype: bfloat16
  reset_optimizer: true
  rehearsal: {share: 0}
  num_workers: 4
  resources_per_worker: {CPU: 4, GPU: 1}
  deepspeed: {zero_optimization: {stage: 2}}
stop: {rounds: 19}
"""


FOUR = ["stop.rounds=2", "judge.orders=4", "bandit.window=9", "training.learning_rate=1e-6"]


def minimal(**changes):
    plain = {
        "run_dir": "/runs/x",
        "preset": "paper",
        "sources": [{"name": "a", "model": "org/a"}, {"name": "m", "model": "hub/Mistral-Small-24B-Instruct-2501"}],
        "target": {"name": "t", "model": "org/t"},
    }
    return {**plain, **changes}


def resolved(config):
    """All of a configuration but the preset's name, sampling as the engines are asked for it."""
    plain = config.model_dump(exclude={"preset", "run_dir"})
    for model, of in zip((*config.sources, config.target), (*plain["sources"], plain["target"]), strict=True):
        of["sampling"] = {role: model.sampling_of(role).model_dump() for role in ROLES}
    return plain


def value_of(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_the_papers_file_is_what_it_was_when_every_value_stood_in_it(tmp_path):
    path = tmp_path / "explicit.yaml"
    path.write_text(EXPLICIT)
    assert resolved(load_config(PAPER)) == resolved(load_config(path))


@pytest.mark.parametrize("key", PRESETS["paper"].settings)
def test_every_setting_of_the_preset_exists_and_is_set(key):
    value = PRESETS["paper"].settings[key]
    config = parse_config(minimal())
    assert value_of(config, key) == value and type(value_of(config, key)) is type(value)
    assert changed_settings(config) == []


def test_every_model_gets_the_papers_sampling():
    config = parse_config(minimal())
    assert [source.temperature for source in config.sources] == [0.7, 0.15]
    assert config.target.temperature == 0.6
    for source in config.sources:
        assert [source.sampling.sprout.top_p, source.sampling.question.top_p] == [0.95, 0.95]
    for model in (*config.sources, config.target):
        assert (model.sampling.answer.top_p, model.sampling.answer.max_tokens) == (0.8, 4096)


@pytest.mark.parametrize(
    ("model", "temperature"),
    [
        ("mistralai/Mistral-Small-24B-Instruct-2501", 0.15),
        ("/data/mistral-small-24b/", 0.15),
        ("mistralai/Mistral-Large", 0.7),
        ("mistral-small-lab/phi", 0.7),
    ],
)
def test_the_papers_temperature_of_mistral_small_goes_by_the_models_name(model, temperature):
    config = parse_config(minimal(sources=[{"name": "m", "model": model}]))
    assert config.sources[0].temperature == temperature


def test_it_changes_the_defaults_it_is_meant_to_change():
    """Guards the tests here: without the preset these values are others."""
    plain = parse_config({key: value for key, value in minimal().items() if key != "preset"})
    with_it = parse_config(minimal())
    assert plain.preset is None and changed_settings(plain) == []
    assert plain.bandit.kind != with_it.bandit.kind
    settings = [key for key in PRESETS["paper"].settings if not key.startswith("bandit.")]  # of another kind
    differing = {key for key in settings if value_of(plain, key) != value_of(with_it, key)}
    assert differing >= {
        "sprout.reuse_ballots",
        "sprout.vary_initials",
        "harvest.question_attempts",
        "harvest.heldout_fraction",
        "harvest.max_staleness",
        "harvest.step_lag",
        "training.reset_optimizer",
    }


def test_a_users_value_wins_in_the_file_and_as_override(tmp_path):
    plain = minimal(
        harvest={"heldout_fraction": 0.2, "styles": ["one"]},
        training={"deepspeed": {"zero_optimization": {"stage": 3}, "steps_per_print": 5}},
        sources=[{"name": "a", "model": "org/a", "temperature": 0.3, "sampling": {"answer": {"max_tokens": 99}}}],
    )
    path = tmp_path / "fusion.yaml"
    path.write_text(yaml.safe_dump(plain))
    config = load_config(path, ["stop.rounds=2", "target.temperature=0.1", "bandit.window=7"])
    assert (config.harvest.heldout_fraction, config.harvest.step_lag, config.harvest.styles) == (0.2, 0, ("one",))
    assert config.training.deepspeed == {"zero_optimization": {"stage": 3}, "steps_per_print": 5}, "whole, not mixed"
    assert (config.sources[0].temperature, config.target.temperature) == (0.3, 0.1)
    assert (config.sources[0].sampling.answer.max_tokens, config.sources[0].sampling.answer.top_p) == (99, 0.8)
    assert (config.stop.rounds, config.bandit.window, config.bandit.threshold) == (2, 7, 0.2)
    assert changed_settings(config) == [
        "bandit.window",
        "harvest.heldout_fraction",
        "training.deepspeed",
        "stop.rounds",
        "sources.a.temperature",
        "sources.a.sampling.answer.max_tokens",
        "target.temperature",
    ]


def test_another_policy_has_its_own_parameters_not_the_papers():
    config = parse_config(minimal(bandit={"kind": "glr_thompson"}))
    assert config.bandit == BANDITS["glr_thompson"]() and config.bandit.window != 20
    assert changed_settings(config) == ["bandit.kind"]
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_a_value_equal_to_the_default_is_a_users_value_too():
    config = parse_config(minimal(harvest={"max_staleness": 1}, sprout={"reuse_ballots": True}))
    assert config.harvest.max_staleness == 1 and config.sprout.reuse_ballots


def test_a_preset_as_override_fills_in_what_the_file_leaves_out():
    config = load_config(QUICKSTART, ["preset=paper"])
    plain = load_config(QUICKSTART)
    assert config.preset == "paper" and plain.preset is None
    assert config.training.reset_optimizer and not config.sprout.reuse_ballots
    assert (config.stop, config.tree, config.harvest) == (
        plain.stop,
        plain.tree,
        plain.harvest.model_copy(update={"question_attempts": 1, "length_unit": "characters"}),
    )
    assert load_config(PAPER, ["preset=null", "harvest={}"]).harvest.max_staleness == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preset": "papers"}, "preset"),
        ({"preset": ["paper"]}, "preset"),
        ({"harvest": {"step_lag": -1}}, "harvest.step_lag"),
        ({"harvest": {"step_lagg": 1}}, "harvest.step_lagg"),
        ({"harvest": None}, "harvest"),
        ({"harvest": 3}, "harvest"),
        ({"sources": 3}, "sources"),
        ({"sources": ["x"]}, "sources.0"),
        ({"sources": [{"name": "a", "model": "m", "sampling": {"answer": 1}}]}, "sources.0.sampling.answer"),
        ({"target": {"name": "t"}}, "target.model"),
        ({"stop": {"no_gain_rounds": 2}}, "stop.no_gain_rounds"),
        ({"tree": {"max_children": [1]}}, "tree"),
    ],
)
def test_an_error_names_the_users_field(changes, field):
    with pytest.raises(ConfigErrors) as caught:
        parse_config(minimal(**changes))
    assert [error.field for error in caught.value.errors] == [field]


def test_what_a_run_writes_down_keeps_the_preset_and_every_value():
    config = load_config(PAPER, ["stop.rounds=3", "sources.phi-4.temperature=0.5"])
    dumped = yaml.safe_load(dump_config(config))
    assert dumped["preset"] == "paper"
    assert (dumped["harvest"]["max_staleness"], dumped["bandit"]["window"], dumped["stop"]["rounds"]) == (0, 20, 3)
    assert [source["temperature"] for source in dumped["sources"]] == [0.7, 0.15, 0.5]
    assert dumped["sources"][0]["sampling"]["answer"]["top_p"] == 0.8
    again = parse_config(dumped)
    assert again == config and dump_config(again) == dump_config(config)


def test_a_preset_leaves_what_it_was_given_as_it_was_and_takes_sections_as_objects():
    plain = minimal(harvest={"heldout_fraction": 0.2})
    config = FusionConfig.model_validate({**plain, "bandit": BANDITS["dynabranches"](threshold=0.05)})
    assert plain == minimal(harvest={"heldout_fraction": 0.2})
    assert (config.bandit.threshold, config.bandit.window) == (0.05, 20)
    other = FusionConfig.model_validate({**plain, "bandit": BANDITS["uniform"](), "judge": {"kind": "consensus"}})
    assert (other.bandit.kind, other.judge.kind) == ("uniform", "consensus")
    again = FusionConfig(**dict(config))
    assert again == config


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "preset       paper\n"),
        (["stop.rounds=2", "judge.orders=4"], "preset       paper, but for judge.orders, stop.rounds\n"),
        (["preset=null"], "preset       none\n"),
        (
            [f"sources.{i}.temperature=1" for i in range(3)] + ["tree.depth=2", *FOUR],
            "preset       paper, but for tree.depth, bandit.window, judge.orders, training.learning_rate, stop.rounds, "
            "sources.qwen2.5-14b.temperature and 2 more\n",
        ),
    ],
)
def test_plan_says_which_preset_is_in_force(monkeypatch, overrides, line):
    monkeypatch.setattr("bohdi_ray.placement.machines._cards", list)
    done = CliRunner().invoke(main, ["plan", str(PAPER), *overrides], catch_exceptions=False)
    assert line in done.output
