"""Writes bohdi_ray.json, the Grafana dashboard of a run, from the table of metrics (bohdi_ray/observe/metric_names.py).

Laid out like the dashboards that Ray makes: the data source is the variable `datasource`, `SessionName` picks the Ray
session, and `run` picks runs. Usage: python cluster/grafana/make_board.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_ray.observe import metric_names as names
from bohdi_ray.observe.metric_names import MetricSpec

BOARD = Path(__file__).with_name("bohdi_ray.json")
UID, TITLE = "bohdiRay", "bohdi_ray"
SESSION, OF_RUN = 'SessionName=~"$SessionName"', 'SessionName=~"$SessionName",run=~"$run"'
WIDTH, HEIGHT, STAT_WIDTH, STAT_HEIGHT = 8, 8, 4, 4
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# vLLM's own metrics, as its logger for Ray names them (vllm/v1/metrics); only engines that are vLLM have them.
VLLM = {
    "running": "ray_vllm_num_requests_running",
    "waiting": "ray_vllm_num_requests_waiting",
    "kv_cache": "ray_vllm_kv_cache_usage_perc",
    "generation": "ray_vllm_generation_tokens_total",
    "prompt": "ray_vllm_prompt_tokens_total",
    "preemptions": "ray_vllm_num_preemptions_total",
    "first_token": "ray_vllm_time_to_first_token_seconds",
    "hits": "ray_vllm_prefix_cache_hits_total",
    "queries": "ray_vllm_prefix_cache_queries_total",
}
VLLM_LABEL = "model_name"


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Chart:
    """A panel: series over time, or with `stat` the newest value as a number."""

    title: str
    queries: tuple[Query, ...]
    about: str
    unit: str = "short"  # a unit of Grafana
    stack: bool = False
    stat: bool = False


def now(spec: MetricSpec, by: str = "", combine: str = "sum") -> str:
    """A gauge's, or a counter's, present value."""
    return f"{combine}{f' by ({by})' if by else ''} ({spec.exported}{{{OF_RUN}}})"


def rate(spec: MetricSpec, by: str = "") -> str:
    """A counter's growth per second."""
    return f"sum{f' by ({by})' if by else ''} (rate({spec.exported}{{{OF_RUN}}}[$__rate_interval]))"


def gauge(title: str, spec: MetricSpec, legend: str, by: str = "", combine: str = "sum", **looks: Any) -> Chart:
    return Chart(title, (Query(now(spec, by, combine), legend),), spec.help, **looks)


def growth(title: str, spec: MetricSpec, legend: str, by: str = "", **looks: Any) -> Chart:
    return Chart(title, (Query(rate(spec, by), legend),), spec.help, **looks)


def total(title: str, spec: MetricSpec, legend: str, by: str) -> Chart:
    return Chart(title, (Query(now(spec, by), legend),), f"{spec.help}. Since the driver's start.", stack=True)


def vllm(key: str, wrap: str = "sum by (model_name) ({})") -> str:
    return wrap.format(f"{VLLM[key]}{{{SESSION}}}")


def vllm_rate(key: str) -> str:
    return vllm(key, "sum by (model_name) (rate({}[$__rate_interval]))")


def first_token(quantile: float) -> Query:
    series = f"rate({VLLM['first_token']}_bucket{{{SESSION}}}[$__rate_interval])"
    expr = f"histogram_quantile({quantile}, sum by (le, model_name) ({series}))"
    return Query(expr, f"{{{{model_name}}}} p{quantile * 100:.0f}")


def stats() -> list[Chart]:
    """The row of numbers at the top."""
    plain: dict[str, Any] = {"combine": "max", "stat": True}
    return [
        gauge("Runs with a driver", names.UP, "runs", combine="sum", stat=True),
        gauge("Round", names.ROUND, "round", **plain),
        gauge("Weights served", names.WEIGHTS_VERSION, "version", **plain),
        gauge("Weights trained", names.TRAINED_VERSION, "version", **plain),
        gauge("Sources left out", names.SOURCES_LEFT_OUT, "sources", combine="sum", stat=True),
        gauge("Cost of remote sources", names.COST, "cost", combine="sum", stat=True),
    ]


def harvest() -> list[Chart]:
    waited = f"{rate(names.QUEUE_WAIT, 'model')} / ({rate(names.REQUESTS, 'model')} > 0)"
    in_flight = (
        Query(now(names.IN_FLIGHT, "model"), "{{model}} in flight"),
        Query(now(names.WAITING, "model"), "{{model}} waiting"),
    )
    return [
        growth("Samples accepted", names.ACCEPTED, "{{split}}", "split", unit="cps", stack=True),
        growth("Tickets without a sample", names.REJECTED, "{{reason}}", "reason", unit="cps", stack=True),
        growth("Walks without a domain", names.ABANDONED, "{{reason}}", "reason", unit="cps", stack=True),
        gauge("Tickets in flight", names.TICKETS_IN_FLIGHT, "tickets"),
        gauge("Reward rate by main domain", names.REWARD_RATE, "{{domain}}", "domain", "avg", unit="percentunit"),
        gauge("Samples by main domain", names.DOMAIN_SAMPLES, "{{domain}}", "domain", stack=True),
        gauge("Domains by level", names.DOMAINS, "level {{level}}", "level"),
        Chart("Requests by pool", in_flight, f"{names.IN_FLIGHT.help}; {names.WAITING.help}"),
        Chart("Wait for a slot, per request", (Query(waited, "{{model}}"),), names.QUEUE_WAIT.help, unit="s"),
        growth("Sprouts", names.SPROUTS, "{{result}}", "result", unit="cps", stack=True),
    ]


def engines() -> list[Chart]:
    replicas = (
        Query(now(names.REPLICAS_WANTED, "model"), "{{model}} wanted"),
        Query(now(names.REPLICAS_UP, "model"), "{{model}} up"),
    )
    return [
        Chart("Replicas", replicas, f"{names.REPLICAS_WANTED.help}; {names.REPLICAS_UP.help}"),
        growth("Requests answered", names.REQUESTS, "{{model}}", "model", unit="reqps", stack=True),
        gauge("Engines idle", names.ENGINE_IDLE, "{{model}}", "model", "avg", unit="percentunit"),
        growth("Tokens per second by role", names.TOKENS, "{{role}}", "role", stack=True),
        growth("Tokens per second by model", names.TOKENS, "{{model}}", "model", stack=True),
        growth("Prompt tokens per second", names.PROMPT_TOKENS, "{{model}}", "model", stack=True),
    ]


def vllm_row() -> list[Chart]:
    """vLLM's own figures, for engines that are vLLM."""
    requests = (Query(vllm("running"), "{{model_name}} running"), Query(vllm("waiting"), "{{model_name}} waiting"))
    tokens = (
        Query(vllm_rate("generation"), "{{model_name}} decoded"),
        Query(vllm_rate("prompt"), "{{model_name}} prompt"),
    )
    cache = Query(vllm("kv_cache", "avg by (model_name) ({})"), "{{model_name}}")
    hits = Query(f"{vllm_rate('hits')} / ({vllm_rate('queries')} > 0)", "{{model_name}}")
    return [
        Chart("vLLM: requests", requests, "Requests that vLLM's scheduler runs, and that it lets wait"),
        Chart("vLLM: tokens per second", tokens, "Tokens that vLLM decoded and read"),
        Chart("vLLM: time to the first token", (first_token(0.5), first_token(0.95)), "Within vLLM", unit="s"),
        Chart("vLLM: KV cache in use", (cache,), "Share of the KV cache, mean over replicas", unit="percentunit"),
        Chart("vLLM: prefix cache hits", (hits,), "Share of prompt tokens found in the cache", unit="percentunit"),
        Chart("vLLM: preemptions", (Query(vllm_rate("preemptions"), "{{model_name}}"),), "Per second", unit="cps"),
    ]


def training() -> list[Chart]:
    loss = (
        Query(now(names.TRAINING_LOSS, "run"), "{{run}} training"),
        Query(now(names.HELDOUT_LOSS, "run"), "{{run}} held out"),
    )
    scores = (Query(now(names.EVALUATION_SCORE, "run, task"), "{{run}} {{task}}"),)
    queue = (Query(now(names.QUEUE_ROWS), "rows"), Query(now(names.QUEUE_STEPS), "steps"))
    speed = (Query(now(names.TRAINING_SPEED), "while stepping"), Query(rate(names.TRAINED_TOKENS), "over all time"))
    idle = (
        Query(now(names.HARVEST_IDLE, "run"), "{{run}} harvest"),
        Query(now(names.TRAINING_IDLE, "run"), "{{run}} training"),
    )
    return [
        Chart("Loss", loss, f"{names.TRAINING_LOSS.help}; {names.HELDOUT_LOSS.help}. nats per answer token"),
        Chart("Evaluation", scores, names.EVALUATION_SCORE.help),
        Chart("Training tokens per second", speed, f"{names.TRAINING_SPEED.help}; {names.TRAINED_TOKENS.help}"),
        growth("Training rows per second", names.TRAINED_ROWS, "rows", unit="cps"),
        growth("Training rows rejected", names.REJECTED_ROWS, "{{reason}}", "reason", unit="cps", stack=True),
        Chart("Queue", queue, f"{names.QUEUE_ROWS.help}; {names.QUEUE_STEPS.help}"),
        gauge("Staleness", names.STALENESS, "{{run}}", "run", "max"),
        Chart("Idle", idle, f"{names.HARVEST_IDLE.help}; {names.TRAINING_IDLE.help}", unit="percentunit"),
    ]


def weights_and_failures() -> list[Chart]:
    failures = Query(f"{now(names.FAILURES, 'kind, model')} or vector(0)", "{{kind}} {{model}}")
    reborn = Query(f"{now(names.REBIRTHS)} or vector(0)", "domains")
    return [
        gauge("Seconds to change the engines' weights", names.WEIGHT_SYNC, "{{run}}", "run", "max", unit="s"),
        Chart("Changes of weights", (Query(now(names.WEIGHT_SYNCS), "changes"),), names.WEIGHT_SYNCS.help),
        gauge("Seconds to change turns", names.TURN_SWITCH, "{{run}} to {{to}}", "run, to", "max", unit="s"),
        Chart("Failures by kind", (failures,), f"{names.FAILURES.help}. Since the driver's start; 0: none", stack=True),
        Chart("Rebirths", (reborn,), f"{names.REBIRTHS.help}. Since the driver's start; 0: none"),
    ]


ROWS = {
    "The run": stats,
    "Harvest": harvest,
    "Engines": engines,
    "Engines: vLLM": vllm_row,
    "Training": training,
    "Weights and failures": weights_and_failures,
}


def board() -> dict[str, Any]:
    """The dashboard as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, charts in ROWS.items():
        row = {"type": "row", "title": title, "collapsed": False, "panels": [], "id": len(panels) + 1}
        panels.append({**row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        x = 0
        for chart in charts():
            width, height = (STAT_WIDTH, STAT_HEIGHT) if chart.stat else (WIDTH, HEIGHT)
            if x + width > 24:
                x, y = 0, y + height
            panels.append(panel(chart, len(panels) + 1, {"x": x, "y": y, "w": width, "h": height}))
            x += width
        y += height
    return {
        "uid": UID,
        "title": TITLE,
        "tags": ["ray", "bohdi_ray"],
        "schemaVersion": 36,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": panels,
    }


def panel(chart: Chart, id: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": "ABCDEF"[i], "expr": query.expr, "legendFormat": query.legend, "datasource": DATASOURCE}
        for i, query in enumerate(chart.queries)
    ]
    custom = {"fillOpacity": 30 if chart.stack else 0, "stacking": {"mode": "normal" if chart.stack else "none"}}
    defaults: dict[str, Any] = {"unit": chart.unit} | ({"noValue": "-"} if chart.stat else {"custom": custom, "min": 0})
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    options = (
        {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if chart.stat
        else {"legend": legend, "tooltip": {"mode": "multi"}}
    )
    return {
        "id": id,
        "type": "stat" if chart.stat else "timeseries",
        "title": chart.title,
        "description": chart.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def variables() -> list[dict[str, Any]]:
    """What a viewer may choose."""

    def chosen(name: str, query: str, multi: bool) -> dict[str, Any]:
        everything = {"text": ["All"] if multi else "All", "value": ["$__all"] if multi else "$__all"}
        return {
            "name": name,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "StandardVariableQuery"},
            "refresh": 2,
            "sort": 2,
            "includeAll": True,
            "allValue": ".+",
            "multi": multi,
            "current": everything,
        }

    up = names.UP.exported
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 2, "refresh": 1, "current": {}},
        chosen("SessionName", f"label_values({up}, SessionName)", multi=False),
        chosen("run", f'label_values({up}{{SessionName=~"$SessionName"}}, run)', multi=True),
    ]


def text() -> str:
    """What bohdi_ray.json holds."""
    return json.dumps(board(), indent=1) + "\n"


if __name__ == "__main__":
    BOARD.write_text(text())
