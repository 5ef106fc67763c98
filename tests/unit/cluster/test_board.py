"""The Grafana dashboard asks for metrics and labels that exist, and is what its program writes."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from bohdi_ray.observe import metric_names as names

FOLDER = Path(__file__).parents[3] / "cluster" / "grafana"
SPECS = {spec.exported: spec for spec in names.ALL}
VLLM = re.compile(r"ray_vllm_\w+")


def program(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def board():
    return json.loads((FOLDER / "bohdi_ray.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def targets(board):
    return [(panel, target) for panel in board["panels"] for target in panel.get("targets", [])]


def labels_asked_for(expr: str, legend: str) -> set[str]:
    grouped = re.findall(r"\bby \(([\w, ]+)\)", expr)
    matched = re.findall(r"(\w+)=~", expr)
    return {label.strip() for group in grouped for label in group.split(",")} | {*matched, *re.findall(r"\w+", legend)}


def test_the_file_is_what_the_program_writes():
    assert (FOLDER / "bohdi_ray.json").read_text("utf-8") == program("make_board").text(), (
        "run: python cluster/grafana/make_board.py"
    )


def test_every_metric_and_label_exists(targets):
    for panel, target in targets:
        asked = re.findall(r"\bray_\w+", target["expr"])
        assert asked, panel["title"]
        legend = " ".join(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        labels = labels_asked_for(target["expr"], legend) - {"SessionName"}
        if all(VLLM.fullmatch(name) for name in asked):
            assert labels <= {"model_name", "le"}, panel["title"]
            continue
        for name in asked:
            assert labels <= set(SPECS[name].tag_keys), f"{panel['title']}: {target['expr']}"


def test_series_can_be_told_apart_by_what_the_legend_says(targets):
    for panel, target in targets:
        grouped = {label for group in re.findall(r"\bby \(([\w, ]+)\)", target["expr"]) for label in group.split(", ")}
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown == grouped - {"le"}, panel["title"]


def test_every_metric_is_shown(targets):
    asked = {name for _, target in targets for name in re.findall(r"\bray_bohdi_\w+", target["expr"])}
    assert set(SPECS) - asked == set()


def test_counters_are_shown_as_growth_or_said_to_be_totals(targets):
    for panel, target in targets:
        for name in re.findall(r"\bray_bohdi_\w+", target["expr"]):
            rated = f"rate({name}{{" in target["expr"]
            assert rated <= (SPECS[name].kind == "counter"), f"{panel['title']}: a rate of a gauge"


def test_it_is_a_dashboard_that_the_ray_dashboard_can_embed(board):
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and len(board["uid"]) <= 40
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == {"datasource", "SessionName", "run"}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["description"], panel["title"]
            assert all('SessionName=~"$SessionName"' in target["expr"] for target in panel["targets"])
    places = [panel["gridPos"] for panel in board["panels"]]
    taken = {(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
    assert len(taken) == sum(p["w"] * p["h"] for p in places) and max(x for x, _ in taken) < 24


def test_vllm_has_the_metrics_that_the_dashboard_asks_it_for():
    """Read in vLLM's source: its import would load torch."""
    package = importlib.util.find_spec("vllm")
    assert package and package.submodule_search_locations
    loggers = Path(package.submodule_search_locations[0]) / "v1" / "metrics" / "loggers.py"
    known = {f"ray_vllm_{name}" for name in re.findall(r'"vllm:(\w+)"', loggers.read_text("utf-8"))}
    asked = {name.removesuffix("_total") for name in program("make_board").VLLM.values()}  # Ray's mark of a counter
    assert asked <= known
