"""A run's metrics as Prometheus gets them from Ray's agent, against the run's own figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from scraping import scraped
from scripted_parts import Faults, scripted_config, scripted_parts

from bohdi_ray.fusion import fuse
from bohdi_ray.observe import metric_names as names

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]

REPORTED_S = 45.0  # Ray's processes report every 10 s
FORGOTTEN_S = 60.0  # Ray's agent forgets a gauge that was not set for 20 s

Series = dict[tuple[str, ...], float]


def told_of(run: str) -> dict[str, Series]:
    """The run's samples by metric, and by the values of its labels."""
    specs = {spec.exported: spec for spec in names.ALL}
    found: dict[str, Series] = {}
    for sample in scraped():
        if (spec := specs.get(sample.name)) is not None and sample.labels["run"] == run:
            found.setdefault(spec.name, {})[tuple(sample.labels[label] for label in spec.labels)] = sample.value
    return found


def scraped_until(run: str, condition: Callable[[dict[str, Series]], bool], seconds: float) -> dict[str, Series]:
    deadline = time.monotonic() + seconds
    while not condition(found := told_of(run)):
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return found


def test_prometheus_gets_what_the_summary_says(tmp_path):
    folder, faults = tmp_path / "told to prometheus", Faults(str(tmp_path / "faults"))
    run = "told_to_prometheus"
    faults.arm("die-ada")
    config = scripted_config(str(folder), harvest={"min_question_chars": 68, "max_tasks_in_flight": 4})
    # Slow enough for the driver's looks to see it at work.
    summary = fuse(config, parts=scripted_parts(answer_s=0.3, step_s=0.5, faults=faults))
    accepted = summary.num_accepted

    found = scraped_until(run, lambda found: sum(found.get(names.ACCEPTED.name, {}).values()) >= accepted, REPORTED_S)
    written = json.loads((folder / "summary.json").read_text())
    split = found[names.ACCEPTED.name]
    assert (sum(split.values()), split.get(("heldout",), 0)) == (written["num_samples"], written["num_heldout"])
    assert written["failures"] and found[names.REJECTED.name] == {(k,): n for k, n in written["failures"].items()}
    tokens: dict[str, float] = {}
    for (role, _), number in found[names.TOKENS.name].items():
        tokens[role] = tokens.get(role, 0) + number
    assert tokens == written["tokens"]
    models = {model for _, model in found[names.TOKENS.name]}
    assert models == {"ada", "bob", "cyd", "target"}
    assert found[names.FAILURES.name] == {("engine_replaced", ""): 1}
    assert found[names.WEIGHT_SYNCS.name] == {(): len({r["weights_version"] for r in written["rounds"]}) - 1}
    assert sum(found[names.REQUESTS.name].values()) > 0

    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    look = next(record for record in records if record["kind"] == "look")
    assert look["replicas"]["target"] == {"wanted": 1, "up": 1} and look["queue_rows"] >= 0
    assert records[-1]["kind"] == "ended" and records[-1]["error"] is None

    # The run has ended: nothing that was true of it a minute ago is told as if it still were.
    scraped_until(
        run, lambda found: not any(spec.name in found for spec in names.ALL if spec.kind == "gauge"), FORGOTTEN_S
    )
