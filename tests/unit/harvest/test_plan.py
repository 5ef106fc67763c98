"""The plan holds what the configuration says, travels by pickle, and refuses what no judge could label."""

import pickle

import pytest

from bohdi_ray.errors import ConfigErrors
from bohdi_ray.harvest.plan import HarvestPlan, level_names


def test_a_plan_survives_pickling(make_plan):
    plan = make_plan()
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_sampling_follows_model_and_role(make_config):
    source = {"name": "alpha", "model": "/m", "temperature": 0.15, "sampling": {"answer": {"max_tokens": 128}}}
    plan = HarvestPlan.from_config(make_config().model_validate({**make_config().model_dump(), "sources": [source]}))
    spec = plan.spec("answer", "alpha", 7)
    assert (spec.temperature, spec.top_p, spec.max_tokens, spec.seed) == (0.15, 0.8, 128, 7)
    assert plan.spec("judge", "alpha", 7).temperature == 0
    assert plan.spec("question", "student", 7).top_p == 0.95


@pytest.mark.parametrize(
    ("depth", "names"),
    [
        (1, ("domain",)),
        (2, ("main domain", "sub-domain")),
        (3, ("main domain", "secondary domain", "sub-domain")),
        (4, ("main domain", "level-2 domain", "level-3 domain", "sub-domain")),
    ],
)
def test_there_is_one_level_name_per_level(depth, names):
    assert level_names(depth) == names


def test_configured_level_names_are_used(make_plan):
    assert make_plan(tree={"depth": 2, "level_names": ["country", "city"]}).level_names == ("country", "city")


def test_a_faulty_prompt_folder_is_refused_with_the_plan(make_plan, tmp_path):
    (tmp_path / "judge.jinja").write_text("{{ question")
    with pytest.raises(ConfigErrors, match=r"judge\.jinja"):
        make_plan(harvest={"prompts": str(tmp_path)})
