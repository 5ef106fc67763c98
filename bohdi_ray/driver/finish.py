"""The end of a run: evaluates the trained versions on one held-out set, exports the target, and reports.

Called by fusion.py once the last round is trained. The held-out loss of every version still on disk is measured on the
final held-out set, so all of them are compared on the same rows (token-weighted). The best one is of the last stage.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bohdi_ray.config import FusionConfig
from bohdi_ray.deadlines import within
from bohdi_ray.driver.components import ComponentFactories, RunComponents
from bohdi_ray.driver.nothing_learned import why_nothing_was_learned
from bohdi_ray.driver.session import ActiveRun
from bohdi_ray.errors import SEE_LOGS, NothingLearned
from bohdi_ray.evaluation.heldout_loss import FinalFigures
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.observe.events import Summarized
from bohdi_ray.observe.summary import Summary, figures_of
from bohdi_ray.rounds import RunLedger
from bohdi_ray.run.run_dir import BEST, METRICS, SAMPLES, SUMMARY, TARGET, RunDir, weights_dir
from bohdi_ray.run.state import best_scored


async def finish(active: ActiveRun, components: RunComponents, parts: ComponentFactories) -> Summary:
    """Evaluates, exports RUN/target and RUN/best, writes summary.json; returns the summary. Raises NothingLearned, and
    exports no target, if the target has not changed."""
    started = time.monotonic()
    config, ledger = active.config, active.ledger
    active.message("all rounds are trained; measuring on the held-out samples and writing the target")
    # Not `finish`: a trainer that was started behind an older optimizer state would train rounds again for nothing.
    await within(components.queue.stop.remote(), 60, "the sample queue", SEE_LOGS)
    await asyncio.to_thread(components.trainer.join, config.deadlines.train_step_s)
    await components.cleanup.drop_optimizers()
    digest = await within(components.manager.digest.remote(), 60, "the tree's digest", SEE_LOGS)
    domains_by_level = await within(components.manager.domains_by_level.remote(), 60, "the tree's size", SEE_LOGS)
    await components.evaluations.of_newest(ledger.schedule.num_trained, components.pools.watch())
    await components.pools.stop()
    newest, num_closed = ledger.schedule.num_trained, ledger.schedule.num_closed
    versions = [0, *(r + 1 for r in components.run_dir.committed_rounds())]
    measured = await _measured(config, components, parts, versions, num_closed - 1)
    best = _best(ledger, versions, measured.losses, newest)
    samples = SampleStore(components.run_dir).iter_samples()
    in_rounds = (sample for sample in samples if sample.round < num_closed)
    figures = await asyncio.to_thread(
        figures_of, in_rounds, [source.name for source in config.sources], config.target.name
    )
    failed = await asyncio.to_thread(why_nothing_was_learned, components.run_dir, ledger.rounds, newest)
    summary = Summary(
        stop_reason=ledger.schedule.stop_reason or "",
        rounds=tuple(ledger.rounds),
        samples=figures,
        seconds=ledger.seconds(),
        overlap_share=ledger.intervals.overlap_share("harvest", "training"),
        heldout_loss_before=measured.losses.get(0),
        heldout_loss_after=measured.losses.get(newest),
        num_sure=measured.num_sure,
        num_lost=measured.num_lost.get(newest, 0),
        evaluated=dict(sorted(ledger.evaluated.items())),
        domains_by_level=domains_by_level,
        tree_digest=digest,
        best_version=best,
        failed_because=failed,
        paths=_paths(components.run_dir),
    )
    for folder in (TARGET, BEST):  # of an earlier end: a summary with both beside it says that a run has ended
        components.run_dir.delete(folder)
    write_summary(components, summary)  # before the exports: a full disk must not cost the figures
    if failed is not None:
        active.tell(Summarized(summary))
        raise NothingLearned(failed)
    await _export(config, components, parts, {TARGET: newest, BEST: best})
    ledger.intervals.record("finish", started, time.monotonic())
    summary = replace(summary, seconds=ledger.seconds())
    write_summary(components, summary)
    active.tell(Summarized(summary))
    return summary


def _best(ledger: RunLedger, versions: Sequence[int], losses: Mapping[int, float], newest: int) -> int:
    """Which of `versions` RUN/best is: by the scores where they choose, else the one with the lowest loss among those
    of the newest one's stage; the newest one if none was measured."""
    scores = {version: ledger.evaluated[version] for version in versions if version in ledger.evaluated}
    if (scored := best_scored(ledger.config, scores, newest)) is not None:
        return scored
    measured = ledger.config.training.in_newest_stage(losses, newest)
    return min(measured, key=lambda version: losses[version], default=newest)


def _paths(run: RunDir) -> dict[str, str]:
    """Where the results are, by name."""
    names = {"target": TARGET, "best": BEST, "samples": SAMPLES, "metrics": METRICS, "summary": SUMMARY}
    return {"run": run.location, **{name: run.address(path) for name, path in names.items()}}


def write_summary(components: RunComponents, summary: Summary) -> None:
    """RUN/summary.json."""
    components.run_dir.write_bytes(SUMMARY, (json.dumps(summary.to_json(), indent=2) + "\n").encode())


async def _export(
    config: FusionConfig, components: RunComponents, parts: ComponentFactories, versions: Mapping[str, int]
) -> None:
    """Writes versions in the model's own layout, by their folders in the run directory."""
    run = components.run_dir
    for folder, version in versions.items():
        exported = parts.export_weights(config, run.address(weights_dir(version)), run.address(folder))
        await within(exported, config.deadlines.train_step_s, f"RUN/{folder} to be written", SEE_LOGS)


async def _measured(
    config: FusionConfig, components: RunComponents, parts: ComponentFactories, versions: list[int], last_round: int
) -> FinalFigures:
    """The figures of these versions, the loss on the final held-out set among them."""
    folders = {version: components.run_dir.address(weights_dir(version)) for version in versions}
    reference = parts.evaluate(config, folders, components.run_dir, last_round)
    return await within(reference, config.deadlines.train_step_s, "the held-out losses", SEE_LOGS)
