"""Stages of training: which settings hold in which round, what a stage starts anew, what is refused."""

import pickle

import pytest
import yaml

from bohdi_ray.config import FusionConfig
from bohdi_ray.config.changes import changes
from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.driver.resume import with_schedule
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.placement.memory.estimate import ModelSize, estimates
from bohdi_ray.placement.memory.training_memory import LayerShape
from bohdi_ray.placement.placement import resolve_gpus
from bohdi_ray.preflight import preflight
from bohdi_ray.preflight.plan import plan_text
from bohdi_ray.rounds import RunLedger
from bohdi_ray.training.feed.queue import SampleQueue

MODEL = {"model": "org/m"}
STAGES = [
    {"rounds": 2},
    {"rounds": 3, "learning_rate": 3e-7, "global_batch_size": 10, "schedule": {"kind": "linear"}},
    {"rehearsal": {"share": 0}, "max_length": 512},
]


def settings(stages=STAGES, rounds=9, **training) -> dict:
    return {
        "run_dir": "./none",
        "sources": [{"name": "s", **MODEL}],
        "target": {"name": "t", **MODEL},
        "enlightenment": {"steps": 3, "rows_per_step": 20},
        "training": {"global_batch_size": 20, "rehearsal": {"share": 0.25}, "stages": stages, **training},
        "stop": {"rounds": rounds},
    }


def config(*arguments, **more) -> FusionConfig:
    return parse_config(settings(*arguments, **more))


def refused(stages, **more) -> dict[str, str]:
    with pytest.raises(ConfigErrors) as caught:
        config(stages, **more)
    return {error.field: str(error) for error in caught.value.errors}


def test_a_round_has_its_stages_settings_and_else_those_of_the_run():
    training = config().training
    assert [training.stage(round) for round in range(7)] == [0, 0, 1, 1, 1, 2, 2]
    assert [round for round in range(9) if training.starts_stage(round)] == [0, 2, 5]
    assert training.spans(4) == [(0, 2), (2, 2)] and training.spans(9) == [(0, 2), (2, 3), (5, 4)]
    first, second, third = training.at(1), training.at(2), training.at(8)
    assert [one.learning_rate for one in (first, second, third)] == [5e-6, 3e-7, 5e-6]
    assert [one.global_batch_size for one in (first, second, third)] == [20, 10, 20]
    assert [one.max_length for one in (first, second, third)] == [8192, 8192, 512]
    assert second.stages == () and second.at(0) == second
    plain = config([]).training
    assert plain.spans(3) == [(0, 3)] and plain.stage(7) == 0 and plain.at(7) is plain
    assert [round for round in range(5) if plain.starts_stage(round)] == [0]


def test_steps_are_counted_by_stage():
    whole = config()
    # 60 drawn rows and 20 of rehearsal; from round 5 on no rehearsal.
    assert [whole.at(round).most_rows_per_round for round in (0, 2, 5)] == [80, 80, 60]
    assert [whole.most_steps_of_stage(round) for round in (1, 4, 5)] == [2 * 4, 3 * 8, 4 * 3]
    assert whole.most_steps() == 8 + 24 + 12 and whole.most_steps(3) == 8 + 8
    assert whole.most_steps_per_round == 8
    assert whole.schedule_steps(3) == 24 and config([]).schedule_steps() == config([]).most_steps() == 36
    assert config(rounds=10**9).most_steps() > 10**9, "however many rounds there may be"


def test_the_length_of_each_stages_schedule_is_written_down_when_a_run_begins():
    begun = with_schedule(config())
    assert [stage.schedule.total_steps for stage in begun.training.stages] == [None, 24, None]
    longer = with_schedule(config(rounds=30), begun)
    assert longer.training == begun.training
    by_run = with_schedule(config([{"rounds": 2}, {}], schedule={"kind": "cosine"}))
    assert [by_run.training.at(round).schedule.total_steps for round in (0, 8)] == [8, 28]


def test_a_written_configuration_says_what_each_stage_sets_and_nothing_else(tmp_path):
    whole = config()
    plain = whole.model_dump(mode="json")["training"]["stages"]
    assert [set(stage) for stage in plain] == [set(stage) for stage in STAGES]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole.model_dump(mode="json")))
    for again in (load_config(tmp_path / "config.yaml", of_run=True), pickle.loads(pickle.dumps(whole))):
        assert [again.training.at(round) for round in range(9)] == [whole.training.at(round) for round in range(9)]
    override = load_config(tmp_path / "config.yaml", ["training.stages.1.learning_rate=1e-7"], of_run=True)
    assert override.training.at(2).learning_rate == 1e-7


@pytest.mark.parametrize(
    ("stages", "field", "words"),
    [
        ([{}, {}], "training.stages", "stage 0 needs `rounds`"),
        ([{"rounds": 2}], "training.stages", "stage 0, the last one, lasts until the run ends"),
        ([{"rounds": 0}, {}], "training.stages.0.rounds", "greater than or equal to 1"),
        ([{"learning_rat": 1}], "training.stages.0.learning_rat", "Did you mean `learning_rate`"),
        ([{"num_workers": 2}], "training.stages.0.num_workers", "no such key"),
        ([{"objective": {"kind": "dpo"}}], "training.stages.0.objective.kind", "the kinds are"),
        ([{"stages": []}], "training.stages.0.stages", "no such key"),
    ],
)
def test_stages_that_cannot_be_are_refused_by_name(stages, field, words):
    found = refused(stages)
    assert list(found) == [field] and words in found[field]


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        ({"learning_rate": 0}, "training.stages.1.learning_rate"),
        ({"betas": [1.0, 0.9]}, "training.stages.1.betas"),
        ({"learning_rate": 0.1, "weight_decay": 10}, "training.stages.1.weight_decay"),
        ({"schedule": {"warmup_steps": 1000}}, "training.stages.1.schedule.warmup_steps"),
    ],
)
def test_a_stage_that_would_learn_nothing_is_refused(tmp_path, stage, field):
    plain = settings([{"rounds": 1}, stage]) | {"run_dir": str(tmp_path / "run")}
    (found,) = preflight(parse_config(plain), None).problems
    assert found.field == field


def test_a_stage_that_never_begins_is_refused_at_the_start_and_a_resumed_run_may_end_before_it(tmp_path):
    plain = settings([{"rounds": 12, "schedule": {"kind": "linear"}}, {}]) | {"run_dir": str(tmp_path / "run")}
    short = parse_config(plain)
    (found,) = preflight(short, None).problems
    assert found.field == "training.stages.0.rounds" and found.value == 12
    assert found.rule == "stage 1 would begin with round 12, and stop.rounds is 9"
    assert preflight(short, None, resume=True).problems == []
    begun = with_schedule(parse_config(plain | {"stop": {"rounds": 30}}))
    assert with_schedule(short, begun).training == begun.training


def test_a_fault_of_the_whole_run_is_told_once(tmp_path):
    plain = settings([{"rounds": 1}, {}], learning_rate=0) | {"run_dir": str(tmp_path / "run")}
    (found,) = preflight(parse_config(plain), None).problems
    assert found.field == "training.learning_rate"


def test_what_may_change_in_a_resumed_run_may_change_in_a_stage():
    def with_second(**stage):
        return config([{"rounds": 2}, stage])

    (memory,) = changes(with_second(), with_second(micro_batch_size=4))
    assert memory.field == "training.stages.1.micro_batch_size" and memory.harmless
    (rate,) = changes(with_second(), with_second(learning_rate=1e-7))
    assert rate.field == "training.stages.1.learning_rate" and not rate.harmless
    (longer,) = changes(config([{"rounds": 2}, {}]), config([{"rounds": 3}, {}]))
    assert longer.field == "training.stages.0.rounds" and not longer.harmless


def test_plan_lists_the_stages_and_counts_the_memory_of_the_largest(tmp_path):
    whole = resolve_gpus(config([{"rounds": 2}, {"micro_batch_size": 8, "learning_rate": 3e-7}]), False)
    text = plan_text(whole, preflight(whole, None), None)
    assert "2 stages, bfloat16" in text
    assert "stage 0  rounds 0 to 1: sft, global batch 20, learning rate 5e-06, up to 8 steps" in text
    assert "stage 1  rounds 2 to 8: sft, global batch 20, learning rate 3e-07, up to 28 steps" in text
    size = ModelSize(10**8, 2 * 10**8, None, 2048, layers=LayerShape(8, 512, 1024, 512, 2048, 8, 32000, False, False))
    *_, trainer = estimates(whole, {"s": size, "t": size}, None)
    assert "8 x 8192 tokens" in trainer.parts


def test_a_stage_cuts_its_own_steps_and_gets_held_out_examples_anew():
    queue = SampleQueue(config([{"rounds": 2}, {"global_batch_size": 10}]).training)
    for round in range(4):
        queue.put_round(round, [f"{round}-{i}" for i in range(20)], ("a", "b"))
    steps = [queue.take(1, 1, 0, step) for step in range(6)]
    assert [len(step.rows) for step in steps] == [20, 20, 10, 10, 10, 10]
    assert [step.round for step in steps if step.new_heldout] == [0, 2], "another stage may encode them another way"


def test_versions_are_compared_within_a_stage():
    ledger = RunLedger(config([{"rounds": 2}, {}], rounds=9), 0.0)
    best = []
    for round, loss in enumerate((2.0, 1.0, 4.0, 5.0)):
        ledger.rounds.append(summary_of(round))
        ledger.schedule.num_closed += 1
        ledger.add_trained({"heldout_rows": {"a": (loss, 1)}})
        best.append((ledger.best_version, ledger.progress().rounds_without_gain))
    assert best == [(1, 0), (2, 0), (3, 0), (3, 1)]


def summary_of(round: int) -> RoundSummary:
    return RoundSummary(round, round, 3, 3, tokens={"answer": 100}, seconds={"harvest": 4.0})
