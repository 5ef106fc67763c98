"""A run whose questions were compared by other rules is not resumed: its hashes fit no question any more."""

import json

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.resume import reopen
from bohdi_ray.errors import RunDirError
from bohdi_ray.languages.questions import TEXT_RULES
from bohdi_ray.run.run_dir import RunDir


def config(location) -> FusionConfig:
    model = {"kind": "vllm", "model": "./m"}
    return FusionConfig.model_validate(
        {"run_dir": str(location), "sources": [{"name": "alpha", **model}], "target": {"name": "student", **model}}
    )


def began_with(run: RunDir, rules: int | None) -> None:
    facts = {"bohdi_ray": "0.1.0", "git": "74937c1", **({} if rules is None else {"text_rules": rules})}
    run.write_bytes("environment.json", json.dumps(facts).encode())


def test_a_run_of_the_same_rules_is_resumed(tmp_path):
    RunDir.create(tmp_path / "run", config(tmp_path / "run"), {"bohdi_ray": "0.1.0"})
    again, changed = reopen(config(tmp_path / "run"))
    assert again == config(tmp_path / "run") and changed == []


@pytest.mark.parametrize("rules", [None, 1, TEXT_RULES + 1])
def test_a_run_of_other_rules_is_refused_with_the_version_that_can_and_stays_readable(tmp_path, rules):
    run = RunDir.create(tmp_path / "run", config(tmp_path / "run"), {})
    began_with(run, rules)
    with pytest.raises(RunDirError, match=r"0\.1\.0 \(commit 74937c1\).*Resume it with that version") as caught:
        reopen(config(tmp_path / "run"))
    assert f"text rules {rules or 1}" in str(caught.value) and f"has {TEXT_RULES}" in str(caught.value)
    assert RunDir.open(tmp_path / "run").config() == config(tmp_path / "run")
