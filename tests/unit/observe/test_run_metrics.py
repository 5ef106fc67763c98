"""What the driver knows becomes metrics: totals, present values, nothing stale, labels that cannot grow without end."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.spec import EngineStats
from bohdi_ray.observe import metric_names as names
from bohdi_ray.observe.events import (
    ComponentsPolled,
    HarvestMoved,
    PollingEnded,
    QueueFigures,
    RoundTrained,
    TreeRestored,
)
from bohdi_ray.observe.prometheus import Exported
from bohdi_ray.observe.rolling_rates import BusyTime, DomainShares
from bohdi_ray.observe.run_metrics import RunMetrics
from bohdi_ray.observe.summary import RoundSummary
from bohdi_ray.records import Outcome

OBSERVE = Path(names.__file__).parent


class Told:
    """What Ray would be told: counters' sums and the gauges of the last refresh, by name and values of the labels."""

    def __init__(self) -> None:
        self.counters: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[tuple[str, ...], float] = {}
        self.exported = Exported("a run", self.make)

    def make(self, spec: names.MetricSpec) -> Told._Metric:
        return Told._Metric(self, spec)

    class _Metric:
        def __init__(self, told: Told, spec: names.MetricSpec):
            self.told, self.spec = told, spec

        def _key(self, tags: dict[str, str]) -> tuple[str, ...]:
            assert tuple(tags) == self.spec.tag_keys and tags["run"] == "a run"
            return (self.spec.name, *list(tags.values())[1:])

        def inc(self, number: float, tags: dict[str, str]) -> None:
            assert number > 0  # Ray raises else
            self.told.counters[self._key(tags)] += number

        def set(self, value: float, tags: dict[str, str]) -> None:
            self.told.gauges[self._key(tags)] = value

    def refresh(self) -> dict[tuple[str, ...], float]:
        self.gauges = {}
        self.exported.refresh()
        return self.gauges


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def metrics(told: Told) -> RunMetrics:
    return RunMetrics("a run", told.exported, clock=lambda: 0.0)


# The table.


def test_names_are_of_prometheus_and_say_their_kind():
    assert len({spec.name for spec in names.ALL}) == len(names.ALL)
    for spec in names.ALL:
        assert re.fullmatch(r"bohdi_[a-z_]+", spec.name)
        assert spec.name.endswith("_total") == (spec.kind == "counter")
        assert spec.help and spec.unit and names.RUN not in spec.labels


def test_every_metric_of_the_table_is_exported_somewhere():
    used = {
        node.attr
        for node in ast.walk(ast.parse((OBSERVE / "run_metrics.py").read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "names"
    }
    constants = {name for name, value in vars(names).items() if isinstance(value, names.MetricSpec)}
    assert constants <= used
    assert {getattr(names, name) for name in constants} == set(names.ALL)


# Exported.


def test_a_gauge_that_is_taken_out_is_not_told_again(told):
    told.exported.set(names.REPLICAS_UP, 2, model="ada")
    told.exported.set(names.REPLICAS_UP, 1, model="bob")
    told.exported.set(names.TRAINING_LOSS, math.nan)
    assert told.refresh() == {("bohdi_replicas_up", "ada"): 2, ("bohdi_replicas_up", "bob"): 1}
    told.exported.set(names.REPLICAS_UP, None, model="bob")
    assert told.refresh() == {("bohdi_replicas_up", "ada"): 2}
    told.exported.clear(names.REPLICAS_UP)
    assert told.refresh() == {}


def test_a_label_that_the_table_does_not_name_is_refused(told):
    with pytest.raises(AssertionError, match="has the labels"):
        told.exported.count(names.REJECTED, domain="Science")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.booleans())))
def test_totals_of_parts_that_begin_anew_add_up(steps):
    """A total that rises, and begins at nought again when its part is replaced under the same name."""
    told, totals, sum_of_all = Told(), {"a": 0, "b": 0}, 0
    for part, more, begins_anew in steps:
        totals[part] = more if begins_anew and more < totals[part] else totals[part] + more
        sum_of_all += more
        told.exported.count_to(names.REQUESTS, totals[part], part, model="m")
    assert told.counters["bohdi_requests_total", "m"] == sum_of_all


def test_without_ray_nothing_is_exported_and_nothing_breaks():
    exported = Exported("a run")
    exported.set(names.ROUND, 1)
    exported.count(names.REBIRTHS, 2)
    exported.refresh()
    assert exported.gauges() == {("bohdi_round",): 1}


# Domains and idle time.


@given(st.lists(st.tuples(st.sampled_from([*"abcdefgh", "other", "Other"]), st.integers(0, 1)), min_size=1))
def test_domain_labels_are_capped_and_no_sample_is_lost(samples):
    shares = DomainShares(most=3, window=1000)
    for domain, reward in samples:
        shares.add(domain, reward)
    told = shares.shares()
    assert len(told) <= 4 and set(told) <= {*"abcdefgh", "other"}
    assert sum(share.num_samples for share in told.values()) == len(samples)
    assert sum(share.num_samples * share.reward_rate for share in told.values()) == pytest.approx(
        sum(reward for _, reward in samples)
    )
    counts = Counter(domain for domain, _ in samples if domain.lower() != "other")
    own = {domain for domain in told if domain != "other"}
    assert all(counts[a] >= counts[b] for a in own for b in counts.keys() - own)


def test_a_reward_rate_is_that_of_the_newest_samples():
    shares = DomainShares(window=4)
    for reward in (0, 0, 0, 0, 1, 1, 0, 1):
        shares.add("Science", reward)
    assert shares.shares()["Science"].reward_rate == 0.75 and shares.shares()["Science"].num_samples == 8


def test_idle_time_is_counted_over_the_window():
    now = [0.0]
    busy = BusyTime(lambda: now[0], window_s=100)
    assert busy.idle_ratio() is None
    for time, works in ((10, True), (30, False), (40, False), (50, True)):
        now[0] = time
        busy.report(works)
    now[0] = 60
    assert busy.idle_ratio() == pytest.approx(20 / 50)  # since the first word
    now[0] = 140
    assert busy.idle_ratio() == pytest.approx(10 / 100)
    now[0] = 1000
    assert busy.idle_ratio() == 0


# Events and looks.


def test_committed_outcomes_are_counted_by_what_became_of_them(told, metrics):
    outcomes = [
        ("Science", Outcome("t0", reward=1)),
        ("Science", Outcome("t1", reward=0, heldout=True)),
        ("Arts\x1b[2J", Outcome("t2", reward=1)),
        ("Arts", Outcome("t3", failure="invalid_question")),
    ]
    metrics.tell(HarvestMoved(0, 11, 4, 3, None, None, tuple(outcomes), {"answer/ada": 12, "judge/ada/b": 3}))
    metrics.tell(ComponentsPolled())
    assert told.counters == {
        ("bohdi_samples_accepted_total", "train"): 2,
        ("bohdi_samples_accepted_total", "heldout"): 1,
        ("bohdi_samples_rejected_total", "invalid_question"): 1,
        ("bohdi_tokens_total", "answer", "ada"): 12,
        ("bohdi_tokens_total", "judge", "ada/b"): 3,
    }
    gauges = told.refresh()
    assert gauges["bohdi_reward_rate", "Science"] == 0.5 and gauges["bohdi_domain_samples", "Science"] == 2
    assert gauges["bohdi_tickets_in_flight",] == 7
    assert not any("\x1b" in label for key in gauges for label in key)


def engine(name: str = "ada", **fields) -> EngineStats:
    return replace(EngineStats(name, 0, 0, 0, 0, 0, idle_s=0.0, uptime_s=10.0), **fields)


def test_a_pool_is_the_sum_of_its_replicas_and_a_lost_one_takes_nothing_back(told, metrics):
    two = {"ada-0": engine(num_in_flight=3, num_served=10), "ada-1": engine(num_in_flight=1, num_waiting=5, idle_s=5.0)}
    metrics.tell(ComponentsPolled(replicas={"ada": (2, 2), "far": (1, 0)}, engines=two, num_replaced=0))
    gauges = told.refresh()
    assert gauges["bohdi_requests_in_flight", "ada"] == 4 and gauges["bohdi_requests_waiting", "ada"] == 5
    assert gauges["bohdi_engine_idle_ratio", "ada"] == 0.25 and gauges["bohdi_replicas_up", "far"] == 0
    replaced = {"ada-1": engine(num_served=4, uptime_s=20.0, idle_s=5.0), "ada-2": engine(num_served=1, waited_s=2.0)}
    metrics.tell(
        ComponentsPolled(replicas={"ada": (2, 2)}, engines=replaced, num_replaced=1, sources_left_out=("far",))
    )
    gauges = told.refresh()
    assert ("bohdi_replicas_up", "far") not in gauges and gauges["bohdi_sources_left_out",] == 1
    assert gauges["bohdi_engine_idle_ratio", "ada"] == 0
    assert told.counters["bohdi_requests_total", "ada"] == 15
    assert told.counters["bohdi_queue_wait_seconds_total", "ada"] == 2.0
    assert told.counters["bohdi_failures_total", "engine_replaced", ""] == 1
    metrics.tell(PollingEnded())
    assert not any(name.startswith(("bohdi_replicas", "bohdi_requests")) for name, *_ in told.refresh())


def test_restarts_of_trainer_and_queue_are_failures_and_the_first_start_is_none(told, metrics):
    queue = QueueFigures(12, 3, True, committed_version=0, attempt=0, incarnation="x")
    for look in (queue, replace(queue, attempt=1), replace(queue, attempt=1), replace(queue, attempt=3)):
        metrics.tell(ComponentsPolled(queue=look))
    metrics.tell(ComponentsPolled(queue=replace(queue, attempt=0, incarnation="y")))
    failures = {key[1]: n for key, n in told.counters.items() if key[0] == "bohdi_failures_total"}
    assert failures == {"trainer_restarted": 2, "queue_restarted": 1}
    assert (told.refresh()["bohdi_queue_rows",], told.gauges["bohdi_queue_steps",]) == (12, 3)


def test_a_resumed_run_counts_what_is_new(told, metrics):
    metrics.tell(TreeRestored({"num_sprouts": 40, "num_failed_sprouts": 3}))
    metrics.tell(ComponentsPolled(tree={"num_sprouts": 45, "num_failed_sprouts": 3}, domains_by_level=(4, 9)))
    assert told.counters == {("bohdi_sprouts_total", "child"): 5}
    assert told.refresh()["bohdi_domains", "2"] == 9


def trained(metrics) -> RoundTrained:
    return RoundTrained(RoundSummary(0, 0, 0, 0), metrics)


def test_a_trained_round_without_figures_leaves_no_loss_behind(told, metrics):
    metrics.tell(trained({"loss": 1.5, "heldout_loss": 2.5, "tokens_per_s": 90.0, "num_rows": 12, "num_tokens": 500}))
    assert told.refresh()["bohdi_heldout_loss",] == 2.5
    metrics.tell(trained({}))
    assert ("bohdi_training_loss",) not in told.refresh()
    assert told.counters["bohdi_training_tokens_total",] == 500
