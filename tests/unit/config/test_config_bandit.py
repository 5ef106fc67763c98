"""Settings of the bandit: every policy's own defaults, and what it refuses."""

import pytest
import yaml

from bohdi_ray.config import BANDITS, BanditSection
from bohdi_ray.config.kinds.by_kind import own_settings
from bohdi_ray.config.loading import dump_config, parse_config
from bohdi_ray.config.renamed import with_new_names
from bohdi_ray.errors import ConfigErrors

MODELS = {"sources": [{"name": "a", "model": "org/a"}], "target": {"name": "t", "model": "org/t"}}
OWN = {
    "dynabranches": {"window": 20, "threshold": 0.2},
    "uniform": {},
    "greedy": {},
    "discounted_thompson": {"discount": 0.95},
    "dynamic_thompson": {"horizon": 3},
    "sliding_window_thompson": {"horizon": 12},
    "aged_thompson": {"discount": 0.7},
    "glr_thompson": {"window": 200, "false_alarm_rate": 0.05},
    "corrected_swblrt": {"window": 40, "false_alarm_rate": 0.05},
}


def parsed(**bandit):
    return parse_config({"run_dir": "x", **MODELS, "bandit": bandit})


def refused(**bandit):
    with pytest.raises(ConfigErrors) as caught:
        parsed(**bandit)
    return {error.field: error for error in caught.value.errors}


def test_every_policy_has_its_own_settings_and_defaults():
    assert {kind: own_settings(parsed(kind=kind).bandit, BanditSection) for kind in BANDITS} == OWN
    assert parsed().bandit == parsed(kind="dynamic_thompson").bandit
    assert all(parsed(kind=kind).bandit.introspection for kind in BANDITS)


def test_a_value_wins_over_the_policys_default_and_null_does_not():
    assert parsed(kind="glr_thompson", window=100).bandit.window == 100
    assert parsed(kind="glr_thompson", window=None, introspection=None).bandit == BANDITS["glr_thompson"]()
    assert refused(kind="uniform", window=None).keys() == {"bandit.window"}
    assert BANDITS["aged_thompson"](discount=0.5).discount == 0.5


@pytest.mark.parametrize("kind", BANDITS)
def test_a_dumped_configuration_loads_to_itself(kind):
    config = parsed(kind=kind)
    assert parse_config(yaml.safe_load(dump_config(config))) == config


OTHER_VALUES = {"window": 21, "threshold": 0.1, "discount": 0.5, "horizon": 7, "false_alarm_rate": 0.1}


@pytest.mark.parametrize("name", OTHER_VALUES)
@pytest.mark.parametrize("kind", BANDITS)
def test_a_setting_is_used_or_refused(kind, name):
    bandit = {"kind": kind, name: OTHER_VALUES[name]}
    if name in OWN[kind]:
        assert own_settings(parsed(**bandit).bandit, BanditSection)[name] == OTHER_VALUES[name]
    else:
        errors = refused(**bandit)
        assert list(errors) == [f"bandit.{name}"]
        error = errors[f"bandit.{name}"]
        assert error.value == OTHER_VALUES[name] and kind in error.rule and "bandit.kind" in error.remedy
        users = [user for user, settings in OWN.items() if name in settings]
        assert users and all(f"`{user}`" in error.rule for user in users)


def test_a_window_in_which_the_scan_could_see_nothing_is_refused():
    error = refused(kind="glr_thompson", window=11)["bandit.window"]
    assert error.value == 11 and "12" in error.remedy and "0.05" in error.rule
    assert parsed(kind="glr_thompson", window=12)
    assert "bandit.window" in refused(kind="glr_thompson", window=12, false_alarm_rate=0.001)
    assert "bandit.window" in refused(kind="glr_thompson", false_alarm_rate=1e-80), "the default, too"
    assert refused(kind="glr_thompson", false_alarm_rate=2).keys() == {"bandit.false_alarm_rate"}


@pytest.mark.parametrize(
    ("bandit", "field"),
    [
        ({"kind": "best"}, "bandit.kind"),
        ({"kind": ["uniform"]}, "bandit.kind"),
        ({"kind": "aged_thompson", "discount": 0}, "bandit.discount"),
        ({"kind": "aged_thompson", "discount": 1.1}, "bandit.discount"),
        ({"policy": "uniform"}, "bandit.policy"),
    ],
)
def test_what_cannot_be_is_refused(bandit, field):
    errors = refused(**bandit)
    assert errors.keys() == {field}
    assert errors[field].rule and errors[field].remedy
    assert field != "bandit.policy" or errors[field].remedy == "Write bandit.kind."


@pytest.mark.parametrize("kind", BANDITS)
def test_a_stored_configuration_holds_the_settings_of_its_policy_and_no_other(kind):
    stored = yaml.safe_load(dump_config(parsed(kind=kind)))
    assert {*stored["bandit"]} == {"kind", "introspection", *OWN[kind]}


@pytest.mark.parametrize("kind", BANDITS)
def test_a_policy_that_an_earlier_version_stored_is_read(kind):
    """Under the old name, and with the settings of other policies, which were once stored with every policy."""
    everything = {"window": 20, "threshold": 0.2, "discount": 0.95, "horizon": 3, "false_alarm_rate": 0.05}
    for held in (OWN[kind], everything | OWN[kind]):
        plain = {"run_dir": "x", **MODELS, "bandit": {"policy": kind, "introspection": True, **held}}
        assert parse_config(with_new_names(plain)) == parsed(kind=kind)
