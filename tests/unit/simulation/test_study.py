"""Statistics of the comparison, what does not depend on processes, and what the command writes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from bohdi_ray.cli import main
from bohdi_ray.config import BANDITS, BanditSection
from bohdi_ray.config.kinds.by_kind import own_settings
from bohdi_ray.studies.simulation.metrics import samples_to
from bohdi_ray.studies.simulation.policies import ENTRANTS, IN_SIMULATION_ONLY, TUNED
from bohdi_ray.studies.simulation.program import Request
from bohdi_ray.studies.simulation.report import Study, as_json, run_study, verdict_text
from bohdi_ray.studies.simulation.statistics import add_distances_to_oracle, interval, paired, verdict
from bohdi_ray.studies.simulation.study import TUNING_SEEDS, tune
from bohdi_ray.studies.simulation.world_spec import parse_world

SMALL = parse_world({"branching": [2, 2, 2]})


def test_intervals_are_students_and_corrected_for_the_number_of_comparisons():
    # Mean 3, standard deviation sqrt(2.5), n = 5: t(0.975, 4) = 2.776445, and t(0.995, 4) = 4.604095 for five.
    error = np.sqrt(2.5 / 5)
    plain, corrected = interval([1, 2, 3, 4, 5]), interval([1, 2, 3, 4, 5], 5)
    assert plain["mean"] == 3
    assert plain["high"] - 3 == pytest.approx(2.776445 * error, rel=1e-6) == 3 - plain["low"]
    assert corrected["high"] - 3 == pytest.approx(4.604095 * error, rel=1e-6)


def fake_runs(gains):
    """gains: world -> policy -> by seed."""
    return [
        {"world": world, "policy": policy, "seed": seed, "gain": gain}
        for world, by_policy in gains.items()
        for policy, values in by_policy.items()
        for seed, gain in enumerate(values)
    ]


def test_pairing_takes_out_what_seeds_share():
    runs = fake_runs({"w": {"dynabranches": [1.0, 5.0, 9.0], "uniform": [1.1, 5.2, 9.1]}})
    gain = paired(runs, "gain", "uniform", "w", 1)
    assert gain["mean"] == pytest.approx(0.4 / 3) and 0 < gain["high"] - gain["mean"] < 0.15


def test_a_challenger_passes_when_most_worlds_are_better_and_none_is_worse():
    base = [1.0, 2.0, 3.0, 4.0]
    up, down, level = [1.5, 2.6, 3.5, 4.6], [0.5, 1.4, 2.5, 3.4], [1.3, 1.7, 3.2, 3.9]
    found = verdict(
        fake_runs(
            {
                "a": {"dynabranches": base, "uniform": up, "greedy": up, "aged_thompson": up},
                "b": {"dynabranches": base, "uniform": up, "greedy": up, "aged_thompson": level},
                "c": {"dynabranches": base, "uniform": level, "greedy": down, "aged_thompson": level},
            }
        )
    )
    assert {name: row["passes"] for name, row in found["challengers"].items()} == {
        "uniform": True,
        "greedy": False,
        "aged_thompson": False,
    }
    assert found["challengers"]["greedy"]["worse"] == ["c"]
    assert found["recommended"] == "uniform" and found["rivals"] == {}


def test_others_that_pass_are_compared_with_the_recommended():
    base = [1.0, 2.0, 3.0, 4.0]
    better, best = [1.5, 2.6, 3.5, 4.6], [1.7, 2.9, 3.8, 4.9]
    found = verdict(fake_runs({"a": {"dynabranches": base, "uniform": better, "aged_thompson": best}}))
    assert found["recommended"] == "aged_thompson"
    assert (
        found["rivals"]["uniform"]["a"]["mean"] == pytest.approx(-0.275) and found["rivals"]["uniform"]["a"]["high"] < 0
    )


def test_without_a_winner_the_reference_stays():
    found = verdict(fake_runs({"a": {"dynabranches": [1.0, 2.0], "uniform": [1.0, 2.1]}}))
    assert found["recommended"] == "dynabranches"
    assert verdict_text({"verdict": found}).startswith("No challenger passes the rule on these worlds and seeds.")


def test_a_winner_is_recommended_by_name():
    found = verdict(fake_runs({"a": {"dynabranches": [1.0, 2.0, 3.0], "uniform": [1.5, 2.6, 3.5]}}))
    assert verdict_text({"verdict": found}).startswith("Recommended default: uniform. Rule: ")


def test_samples_to_a_level_are_found_between_rounds():
    assert samples_to([0, 90, 180], [0.0, 0.4, 0.5], 0.45) == pytest.approx(135)
    assert samples_to([0, 90], [0.0, 0.4], 0.5) is None


def test_a_run_that_never_gets_there_counts_with_all_its_samples():
    runs = [
        {"world": "w", "policy": "oracle", "seed": 0, "gain": 1.0, "samples": [0, 90, 180], "curve": [0, 0.9, 1.0]},
        {"world": "w", "policy": "uniform", "seed": 0, "gain": 0.5, "samples": [0, 80, 170], "curve": [0, 0.3, 0.5]},
    ]
    add_distances_to_oracle(runs)
    assert runs[0]["samples_to_90"] == 90 and not runs[0]["censored"]
    assert runs[1]["samples_to_90"] == 170 and runs[1]["censored"]
    assert runs[1]["regret"] == pytest.approx((0.6 + 0.5) / 3)


def test_figures_do_not_depend_on_the_number_of_processes():
    def study(num_processes):
        return Study({"small": SMALL}, ("dynabranches", "uniform", "oracle"), (0, 1), 2, num_processes, False)

    reports = [run_study(study(number), lambda line: None) for number in (1, 2)]
    assert reports[0] == reports[1]


def test_tuning_takes_the_best_setting_over_all_worlds_on_seeds_of_its_own():
    chosen, table = tune({"small": SMALL}, ("fixed", "uniform"), 1, 1, None)
    assert len(table) == 4 and chosen["uniform"] == {}
    assert chosen["fixed"] == max(table, key=lambda row: row["gain"])["settings"]
    assert not set(TUNING_SEEDS) & set(Request(full=True).study().seeds)


def test_the_policies_defaults_are_those_that_tuning_chose():
    for name, settings in TUNED.items():
        if name not in IN_SIMULATION_ONLY and name != "dynabranches":  # that one keeps the paper's
            assert own_settings(BANDITS[name](), BanditSection) == settings
        assert settings in ENTRANTS[name].grid


def test_the_command_tells_and_writes_what_it_found(tmp_path):
    (tmp_path / "mine.yaml").write_text("branching: [2, 2]\n")
    out = tmp_path / "out"
    policies = "dynabranches,uniform,oracle"
    arguments = [
        str(tmp_path / "mine.yaml"),
        "--seeds",
        "2",
        "--rounds",
        "2",
        "--policies",
        policies,
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(main, ["simulate", "--processes", "1", *arguments])
    assert done.exit_code == 0, done.output
    assert "Rule: paired interval" in done.output and "uniform" in done.output
    report = json.loads((out / "report.json").read_text())
    for policy in policies.split(","):
        for key in ("mean_skill", "worst_skill", "samples_to_90"):
            assert set(report["policies"][policy][key]) == {"mean", "low", "high"}
    assert report["worlds"]["mine"]["uniform"]["paired_gain"]
    claim = report["claims"]["dynabranches - uniform"]["gain"]["mine"]["mean"]
    assert claim == pytest.approx(-report["worlds"]["mine"]["uniform"]["paired_gain"]["mean"])
    runs = parquet.read_table(out / "runs.parquet")
    assert runs.num_rows == 6 and {"world", "policy", "seed", "gain", "curve"} <= set(runs.column_names)
    assert (out / "tables.md").read_text().count("| dynabranches |") == 1
    names = {path.name for path in out.iterdir()}
    assert {f"{stem}.{end}" for stem in ("allocation", "differences") for end in ("png", "svg")} <= names
    before = (out / "allocation.svg").read_bytes()
    assert CliRunner().invoke(main, ["simulate", "--processes", "1", *arguments]).exit_code == 0
    assert (out / "allocation.svg").read_bytes() == before


def test_the_command_compares_judges(tmp_path):
    arguments = ["--judge-bias", "--seeds", "2", "--rounds", "1", "--processes", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["simulate", *arguments])
    assert done.exit_code == 0, done.output
    cases = json.loads((tmp_path / "judge_bias.json").read_text())["cases"]
    assert cases["shuffled 0.0"]["paired_gain"]["mean"] == 0
    assert cases["target_first 1.0"]["level"] < 0.5 < cases["shuffled 1.0"]["level"]
    assert (tmp_path / "judge_bias.png").stat().st_size > 10_000


def test_an_unknown_policy_is_refused():
    done = CliRunner().invoke(main, ["simulate", "--policies", "uniform,best"])
    assert done.exit_code == 2 and "best" in done.output and "glr_thompson" in done.output


def test_reports_are_json_even_without_intervals():
    assert json.loads(as_json({"a": [float("nan"), 1.0], "b": float("inf")})) == {"a": [None, 1.0], "b": None}
