"""Labels of metrics as Ray can take them, whatever models, folders and reasons are called."""

from __future__ import annotations

from typing import Any

from bohdi_ray.observe import metric_names as names
from bohdi_ray.observe.events import RoundHarvested, RoundTrained
from bohdi_ray.observe.metric_names import MetricSpec
from bohdi_ray.observe.prometheus import Exported
from bohdi_ray.observe.run_metrics import RunMetrics
from bohdi_ray.observe.summary import RoundSummary


class AsciiOnly:
    """Takes labels as Ray's metrics do."""

    def __init__(self, told: list[dict[str, str]]):
        self._told = told

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._told.append({key: text.encode("ascii").decode() for key, text in tags.items()})

    inc = set


def exported(run_name: str, told: list[dict[str, str]]) -> Exported:
    def make(spec: MetricSpec) -> Any:
        return AsciiOnly(told)

    return Exported(run_name, make)


def test_labels_in_any_script_reach_ray_as_ascii():
    told: list[dict[str, str]] = []
    out = exported("räume", told)
    out.set(names.REWARD_RATE, 0.5, domain="数学")
    out.set(names.REWARD_RATE, 0.5, domain="Mathematics")
    out.count(names.ACCEPTED, 1, split="train")
    out.refresh()
    assert {labels["run"] for labels in told} == {"xn--rume-loa"}
    domains = {labels["domain"] for labels in told if "domain" in labels}
    assert len(domains) == 2 and "Mathematics" in domains


def test_losses_and_rejected_rows_are_exported_by_reason():
    told: list[dict[str, str]] = []
    metrics = RunMetrics("r", exported("r", told))
    summary = RoundSummary(0, 0, 0, 0)
    metrics.tell(RoundHarvested(summary, 0.0, (), {"no_proposals": 16}, {}, 0, 0, 0))
    metrics.tell(RoundTrained(summary, {"num_rows": 4, "rejected_rows": {"prompt_too_long": 8}}))
    assert [labels["reason"] for labels in told if "reason" in labels] == ["no_proposals", "prompt_too_long"]


def test_what_metrics_say_of_themselves_is_ascii():
    assert all(text.isascii() for spec in names.ALL for text in (spec.name, spec.help, *spec.tag_keys))
