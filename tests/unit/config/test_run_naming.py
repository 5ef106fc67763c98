"""`{time}` in run_dir, and variables in paths."""

from datetime import datetime
from pathlib import Path

import pytest
import yaml

from bohdi_ray.config.addresses import default_cache_dir
from bohdi_ray.config.loading import load_config, parse_config
from bohdi_ray.config.run_naming import named_run, with_run_dir
from bohdi_ray.engines.openai import resolve_secret
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.submit.job_package import prepare

NOW = datetime(2026, 1, 2, 3, 4, 5)
STAMP = "20260102-030405"


def config_at(run_dir):
    model = {"name": "s", "model": "org/s"}
    return parse_config({"run_dir": str(run_dir), "sources": [model], "target": {**model, "name": "t"}})


def test_starts_within_one_second_get_names_of_their_own(tmp_path):
    config = config_at(tmp_path / "runs" / "x-{time}")
    names = [Path(with_run_dir(config, NOW).run_dir).name for _ in range(3)]
    assert names == [f"x-{STAMP}", f"x-{STAMP}-2", f"x-{STAMP}-3"]


def test_a_run_of_that_name_that_is_there_already_is_passed_by(tmp_path):
    (tmp_path / STAMP / "sub").mkdir(parents=True)
    assert with_run_dir(config_at(tmp_path / "{time}" / "sub"), NOW).run_dir == str(tmp_path / f"{STAMP}-2" / "sub")


def test_on_an_object_store_microseconds_tell_two_starts_apart():
    config = config_at("s3://bucket/run-{time}?region=x")
    names = {with_run_dir(config, NOW.replace(microsecond=n)).run_dir for n in (1, 2)}
    assert names == {f"s3://bucket/run-{STAMP}-00000{n}?region=x" for n in (1, 2)}


def test_where_no_folder_can_be_made_the_name_is_given_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    assert with_run_dir(config_at(tmp_path / "file" / "{time}"), NOW).run_dir == str(tmp_path / "file" / STAMP)


def test_a_folder_that_stayed_empty_is_removed_with_those_made_for_it(tmp_path):
    config = config_at(tmp_path / "a" / "b" / "{time}")
    with pytest.raises(KeyError), named_run(config, NOW) as named:
        assert Path(named.run_dir).is_dir()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with named_run(config, NOW) as named:
        (Path(named.run_dir) / "config.yaml").write_text("")
    assert (tmp_path / "a" / "b" / STAMP / "config.yaml").exists()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a configuration with these values and loads it, standing in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOHDI_TEST_BASE", str(tmp_path / "base"))
    monkeypatch.delenv("BOHDI_TEST_NONE", raising=False)

    def load(run_dir="runs/x", source="org/s", target="org/t", overrides=(), **sections):
        plain = {"run_dir": run_dir, "sources": [{"name": "s", "model": source}], **sections}
        (tmp_path / "f.yaml").write_text(yaml.safe_dump({**plain, "target": {"name": "t", "model": target}}))
        return load_config(tmp_path / "f.yaml", overrides)

    return load


def test_variables_in_every_path_are_replaced(written, tmp_path, monkeypatch):
    monkeypatch.setenv("BOHDI_CACHE", "$BOHDI_TEST_BASE/cache")
    monkeypatch.setenv("BOHDI_TEST_NAME", "m")
    config = written(
        "$BOHDI_TEST_BASE/x-{time}",
        "${BOHDI_TEST_BASE}/model",
        "cache:$BOHDI_TEST_NAME",
        tree={"seed": "$BOHDI_TEST_BASE/seed.yaml"},
        harvest={"prompts": "./$BOHDI_TEST_NAME/prompts"},
    )
    base = tmp_path / "base"
    assert config.run_dir == f"{base}/x-{{time}}" and config.sources[0].model == f"{base}/model"
    assert config.target.model.startswith(f"{base}/cache/") and config.target.model.endswith("/m")
    assert config.tree.seed == f"{base}/seed.yaml" and config.harvest.prompts == str(tmp_path / "m" / "prompts")
    assert default_cache_dir() == base / "cache"
    assert written("s3://$BOHDI_TEST_NAME/run").run_dir == "s3://m/run"
    assert written(overrides=["run_dir=$BOHDI_TEST_BASE/y"]).run_dir == f"{base}/y"
    (tmp_path / "key").write_text("k")
    monkeypatch.setenv("BOHDI_TEST_BASE", str(tmp_path))
    assert resolve_secret("file:$BOHDI_TEST_BASE/key") == "k"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"run_dir": "$BOHDI_TEST_NONE/x"}, "run_dir"),
        ({"run_dir": "s3://${BOHDI_TEST_NONE}/x"}, "run_dir"),
        ({"source": "$BOHDI_TEST_NONE/m"}, "sources.0.model"),
        ({"target": "cache:$BOHDI_TEST_NONE"}, "target.model"),
        ({"tree": {"seed": "$BOHDI_TEST_NONE"}}, "tree.seed"),
        ({"harvest": {"prompts": "~/$BOHDI_TEST_NONE"}}, "harvest.prompts"),
    ],
)
def test_a_variable_that_is_not_set_is_refused(written, values, field):
    with pytest.raises(ConfigErrors) as caught:
        written(**values)
    (error,) = caught.value.errors
    assert error.field == field and "BOHDI_TEST_NONE is not set" in error.rule


def test_variables_in_paths_of_the_cluster_travel_with_a_job_as_they_are(tmp_path):
    model = {"name": "s", "model": "$BOHDI_TEST_NONE/m"}
    plain = {"run_dir": "$BOHDI_TEST_NONE/x-{time}", "sources": [model], "target": {**model, "name": "t"}}
    (tmp_path / "f.yaml").write_text(yaml.safe_dump(plain))
    shipment = prepare(tmp_path / "f.yaml", (), NOW.replace(microsecond=7))
    sent = yaml.safe_load(shipment.files["fusion.yaml"])
    assert sent["run_dir"] == f"$BOHDI_TEST_NONE/x-{STAMP}-000007"
    assert sent["target"]["model"] == "$BOHDI_TEST_NONE/m"
