"""Every metric that a run exports through Ray, in one table: name, kind, unit, labels, meaning.

Ray puts `ray_` before the name, and every metric has the label `run`, the name of the run's folder. They are
exported by an observer of the run's events (`run_metrics.py`); docs/observability.md shows this table. Counters count
from the start of the driver, so a resumed run starts them anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RUN = "run"  # the label of all
OTHER = "other"  # the domain label of all domains but the largest
MOST_DOMAINS = 20  # domain labels beside `other`: they are names that models chose
MOST_TASKS = 60  # of an evaluation: MMLU has 57
PREFIX = "ray_"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. `labels` are those beside `run`."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    labels: tuple[str, ...]
    help: str

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
        return PREFIX + self.name

    @property
    def tag_keys(self) -> tuple[str, ...]:
        return (RUN, *self.labels)


def _counter(name: str, unit: str, labels: tuple[str, ...], help: str) -> MetricSpec:
    return MetricSpec(name, "counter", unit, labels, help)


def _gauge(name: str, unit: str, labels: tuple[str, ...], help: str) -> MetricSpec:
    return MetricSpec(name, "gauge", unit, labels, help)


# How far the run is.
UP = _gauge("bohdi_up", "0 or 1", (), "1 while the run's driver works")
ROUND = _gauge("bohdi_round", "rounds", (), "The round that is harvested, or was last")
WEIGHTS_VERSION = _gauge("bohdi_weights_version", "versions", (), "Weights version that the target's engines serve")
TRAINED_VERSION = _gauge("bohdi_trained_version", "versions", (), "Newest weights version that the trainer committed")
STALENESS = _gauge(
    "bohdi_staleness_versions",
    "versions",
    (),
    "How many versions older than the weights it will train the round under way is harvested with",
)
HARVEST_IDLE = _gauge(
    "bohdi_harvest_idle_ratio",
    "ratio",
    (),
    "Share of the last 5 minutes without a harvest under way: it waited for trained weights, or for a boundary",
)
TRAINING_IDLE = _gauge(
    "bohdi_training_idle_ratio", "ratio", (), "Share of the last 5 minutes in which the trainer had no step to work on"
)
COST = _gauge("bohdi_cost", "currency of the prices", (), "What remote sources' tokens cost so far, over all drivers")

# Harvest.
ACCEPTED = _counter(
    "bohdi_samples_accepted_total", "samples", ("split",), "Samples committed; split is train or heldout"
)
REJECTED = _counter(
    "bohdi_samples_rejected_total", "tickets", ("reason",), "Tickets committed without a sample, by reason"
)
ABANDONED = _counter(
    "bohdi_walks_abandoned_total", "walks", ("reason",), "Walks that found no domain and became no ticket, by reason"
)
TICKETS_IN_FLIGHT = _gauge("bohdi_tickets_in_flight", "tickets", (), "Tickets issued and not harvested yet")
TOKENS = _counter("bohdi_tokens_total", "tokens", ("role", "model"), "Tokens decoded, by what for and by which model")
REWARD_RATE = _gauge(
    "bohdi_reward_rate",
    "ratio",
    ("domain",),
    "Share of the newest samples (up to 100 a domain) that a source won, by main domain: the "
    f"{MOST_DOMAINS} with the most samples, and `{OTHER}`",
)
DOMAIN_SAMPLES = _gauge(
    "bohdi_domain_samples", "samples", ("domain",), "Samples since the driver's start, by the same main domains"
)

# The tree.
SPROUTS = _counter(
    "bohdi_sprouts_total", "elections", ("result",), "Attempts to find a new domain; result is child or failed"
)
REBIRTHS = _counter("bohdi_rebirths_total", "domains", (), "Domains whose posterior began again")
DOMAINS = _gauge("bohdi_domains", "domains", ("level",), "Domains found, by level; 1 holds the main domains")

# Engines, a pool for each model.
REPLICAS_WANTED = _gauge("bohdi_replicas_wanted", "replicas", ("model",), "Engines that the pool is to have")
REPLICAS_UP = _gauge("bohdi_replicas_up", "replicas", ("model",), "Engines that serve")
SOURCES_LEFT_OUT = _gauge("bohdi_sources_left_out", "sources", (), "Sources that take no part at the moment")
IN_FLIGHT = _gauge("bohdi_requests_in_flight", "requests", ("model",), "Requests in the pool's engines")
WAITING = _gauge(
    "bohdi_requests_waiting", "requests", ("model",), "Requests that wait for a slot in the pool's engines"
)
REQUESTS = _counter("bohdi_requests_total", "requests", ("model",), "Requests answered")
QUEUE_WAIT = _counter(
    "bohdi_queue_wait_seconds_total", "s", ("model",), "Time that requests waited for a slot, summed over requests"
)
PROMPT_TOKENS = _counter("bohdi_prompt_tokens_total", "tokens", ("model",), "Prompt tokens of answered requests")
ENGINE_IDLE = _gauge(
    "bohdi_engine_idle_ratio", "ratio", ("model",), "Share of the time since the last look with no request in an engine"
)

# Queue, training, weights.
QUEUE_ROWS = _gauge("bohdi_queue_rows", "rows", (), "Training rows drawn and not trained on yet")
QUEUE_STEPS = _gauge("bohdi_queue_steps", "steps", (), "Training steps put into the queue and not done yet")
TRAINED_ROWS = _counter("bohdi_training_rows_total", "rows", (), "Rows trained on, by committed rounds")
REJECTED_ROWS = _counter(
    "bohdi_training_rows_rejected_total",
    "rows",
    ("reason",),
    "Rows of committed rounds that were not trained on, by reason",
)
TRAINED_TOKENS = _counter("bohdi_training_tokens_total", "tokens", (), "Tokens trained on, by committed rounds")
TRAINING_LOSS = _gauge(
    "bohdi_training_loss", "nats per answer token", (), "Mean training loss of the newest committed round"
)
HELDOUT_LOSS = _gauge(
    "bohdi_heldout_loss", "nats per answer token", (), "Loss on the held-out samples after the newest committed round"
)
EVALUATION_SCORE = _gauge(
    "bohdi_evaluation_score", "score", ("task",), "Score of the newest evaluated version on a task of `evaluate`"
)
TRAINING_SPEED = _gauge(
    "bohdi_training_tokens_per_second",
    "tokens/s",
    (),
    "All workers' tokens over the time they stepped, in the newest committed round",
)
WEIGHT_SYNC = _gauge(
    "bohdi_weight_sync_seconds", "s", (), "How long the newest change of the engines' weights took, its proof included"
)
TURN_SWITCH = _gauge(
    "bohdi_turn_switch_seconds",
    "s",
    ("to",),
    "With placement: colocate, how long the shared cards last took to change to that side, harvest or training",
)
WEIGHT_SYNCS = _counter("bohdi_weight_syncs_total", "changes", (), "Changes of the target engines' weights")

# What broke and was repaired.
FAILURE_KINDS = (
    *("engine_replaced", "engine_given_up", "source_left_out", "quarantined", "trainer_restarted", "queue_restarted"),
)
FAILURES = _counter(
    "bohdi_failures_total",
    "failures",
    ("kind", "model"),
    f"Failures of the machinery by kind ({', '.join(FAILURE_KINDS)}); model is empty where none is concerned",
)

ALL: tuple[MetricSpec, ...] = (
    *(UP, ROUND, WEIGHTS_VERSION, TRAINED_VERSION, STALENESS, HARVEST_IDLE, TRAINING_IDLE, COST),
    *(ACCEPTED, REJECTED, ABANDONED, TICKETS_IN_FLIGHT, TOKENS, REWARD_RATE, DOMAIN_SAMPLES),
    *(SPROUTS, REBIRTHS, DOMAINS),
    *(REPLICAS_WANTED, REPLICAS_UP, SOURCES_LEFT_OUT, IN_FLIGHT, WAITING, REQUESTS, QUEUE_WAIT, PROMPT_TOKENS),
    *(ENGINE_IDLE, QUEUE_ROWS, QUEUE_STEPS, TRAINED_ROWS, REJECTED_ROWS, TRAINED_TOKENS),
    *(TRAINING_LOSS, HELDOUT_LOSS, EVALUATION_SCORE, TRAINING_SPEED),
    *(WEIGHT_SYNC, WEIGHT_SYNCS, TURN_SWITCH, FAILURES),
)
