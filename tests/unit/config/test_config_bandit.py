"""Settings of the bandit: every policy's own defaults, and what it refuses."""

import pytest
import yaml

from bohdi_ray.config import BanditConfig
from bohdi_ray.config.bandit import OWN_DEFAULTS, PARAMETERS
from bohdi_ray.config.loading import dump_config, parse_config
from bohdi_ray.errors import ConfigErrors


def parsed(**bandit):
    models = {"sources": [{"name": "a", "model": "org/a"}], "target": {"name": "t", "model": "org/t"}}
    return parse_config({"run_dir": "x", **models, "bandit": bandit})


def refused(**bandit):
    with pytest.raises(ConfigErrors) as caught:
        parsed(**bandit)
    return {error.field: error for error in caught.value.errors}


def test_defaults_depend_on_the_policy():
    assert parsed().bandit.used() == {"horizon": 3}
    assert parsed(policy="dynabranches").bandit.used() == {"window": 20, "threshold": 0.2}
    assert parsed(policy="glr_thompson").bandit.used() == {"window": 200, "false_alarm_rate": 0.05}
    assert parsed(policy="aged_thompson").bandit.used() == {"discount": 0.7}
    assert parsed(policy="discounted_thompson").bandit.used() == {"discount": 0.95}
    assert parsed(policy="dynamic_thompson").bandit.used() == {"horizon": 3}
    assert parsed(policy="sliding_window_thompson").bandit.used() == {"horizon": 12}
    assert parsed(policy="uniform").bandit.used() == {}


def test_a_value_wins_over_the_policys_default_and_null_does_not():
    assert parsed(policy="glr_thompson", window=100).bandit.window == 100
    assert parsed(policy="glr_thompson", window=None).bandit.window == 200
    assert parsed(policy="uniform", window=None).bandit.window == 20
    assert BanditConfig(policy="aged_thompson", discount=0.5).discount == 0.5


@pytest.mark.parametrize("policy", OWN_DEFAULTS)
def test_a_dumped_configuration_loads_to_itself(policy):
    config = parsed(policy=policy)
    assert parse_config(yaml.safe_load(dump_config(config))) == config


OTHER_VALUES = {"window": 21, "threshold": 0.1, "discount": 0.5, "horizon": 7, "false_alarm_rate": 0.1}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("policy", OWN_DEFAULTS)
def test_a_setting_is_used_or_refused(policy, name):
    bandit = {"policy": policy, name: OTHER_VALUES[name]}
    if name in OWN_DEFAULTS[policy]:
        assert parsed(**bandit).bandit.used()[name] == OTHER_VALUES[name]
    else:
        errors = refused(**bandit)
        assert list(errors) == [f"bandit.{name}"]
        error = errors[f"bandit.{name}"]
        assert error.value == OTHER_VALUES[name] and policy in error.rule and error.remedy
        users = [user for user, settings in OWN_DEFAULTS.items() if name in settings]
        assert users and all(user in error.rule for user in users)
        assert parsed(policy=policy, **{name: BanditConfig.model_fields[name].default}), "the default changes nothing"


def test_a_window_in_which_the_scan_could_see_nothing_is_refused():
    error = refused(policy="glr_thompson", window=11)["bandit.window"]
    assert error.value == 11 and "12" in error.remedy
    assert parsed(policy="glr_thompson", window=12)
    assert "bandit.window" in refused(policy="glr_thompson", window=12, false_alarm_rate=0.001)


@pytest.mark.parametrize(
    "bandit",
    [
        {"policy": "best"},
        {"policy": ["uniform"]},
        {"policy": "aged_thompson", "discount": 0},
        {"policy": "aged_thompson", "discount": 1.1},
    ],
)
def test_what_cannot_be_is_refused(bandit):
    assert all(field.startswith("bandit.") for field in refused(**bandit))


@pytest.mark.parametrize("policy", sorted(OWN_DEFAULTS))
def test_a_stored_configuration_outlives_a_change_of_defaults_that_it_does_not_use(policy):
    """It holds the settings that the policy uses, so those stay, and no other, which a new default would refuse."""
    stored = yaml.safe_load(dump_config(parsed(policy=policy)))
    assert {*stored["bandit"]} == {"policy", "introspection", *OWN_DEFAULTS[policy]}
    assert parse_config(stored) == parsed(policy=policy)
