"""Settings that change the method's course run through the whole loop, and stay deterministic."""

import pytest
import yaml
from long_cases import long
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import RunDir

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]


def run(folder, in_flight=4, **changes):
    settings = {"meditation": {"steps": 3, "walks_per_step": 5}, "stop": {"rounds": 2}, **changes}
    settings["harvest"] = {"max_tasks_in_flight": in_flight, **changes.get("harvest", {})}
    return fuse(scripted_config(str(folder), **settings), parts=scripted_parts())


def samples(folder):
    return list(SampleStore(RunDir.open(folder)).iter_samples())


@pytest.mark.parametrize("policy", ["consensus", *(long(7, name) for name in ("others", "likelihood"))])
def test_every_judge_policy_decides_who_wins(tmp_path, policy):
    summary = run(tmp_path / "run", judge={"kind": policy})
    judged = [sample for sample in samples(tmp_path / "run") if sample.verdict.policy != "only"]
    assert summary.num_accepted >= len(judged) > 0
    assert {sample.verdict.policy for sample in judged} == {policy}
    if policy != "likelihood":
        for sample in judged:
            assert all(judge != "target" for judge in sample.verdict.order_judges)
    if policy != "others":
        assert all(len(sample.verdict.order_logprobs) >= 2 for sample in judged)


@pytest.mark.parametrize(
    "changes",
    [
        {"sprout": {"reuse_ballots": False}, "harvest": {"step_lag": 2}},
        {"sprout": {"reuse_ballots": False, "requests_ahead": 0}, "harvest": {"step_lag": 0}},
    ],
    ids=["step-lag-2", "paper"],
)
def test_the_digest_does_not_depend_on_tasks_in_flight(tmp_path, changes):
    one = run(tmp_path / "one", in_flight=1, **changes)
    many = run(tmp_path / "many", in_flight=16, **changes)
    assert one.tree_digest == many.tree_digest
    assert one.num_accepted == many.num_accepted > 0


def test_a_tree_of_depth_1_has_leaves_below_its_root(tmp_path):
    summary = run(tmp_path / "run", tree={"depth": 1})
    assert len(summary.domains_by_level) == 1
    assert summary.domains_by_level[0] > 0
    assert {len(sample.path) for sample in samples(tmp_path / "run")} == {1}


def test_a_seeded_tree_is_harvested_where_it_was_seeded(tmp_path):
    seeds = {"Science": {"Physics": ["Optics", "Acoustics"]}, "Arts": {"Music": ["Harmony"]}}
    (tmp_path / "seeds.yaml").write_text(yaml.safe_dump(seeds))
    tree = {"seed": str(tmp_path / "seeds.yaml"), "max_children": [2, 1, 2]}
    summary = run(tmp_path / "run", tree=tree)
    assert summary.domains_by_level[:2] == (2, 2)
    assert {sample.path[0] for sample in samples(tmp_path / "run")} == {"Science", "Arts"}


def test_without_held_out_rows_nothing_is_measured(tmp_path):
    summary = run(tmp_path / "run", harvest={"heldout_fraction": 0.0}, tree={"depth": 2})
    assert summary.heldout_loss_before is summary.heldout_loss_after is None
    assert summary.best_version == 2
