"""A fusion's harvest without processes: the real tree, harvest, storage and metrics, over scripted models that say what
a test wants them to say."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fakes import ScriptedModels
from scripted_fusion import make_config

from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.examples.sample_table import to_table
from bohdi_ray.harvest.harvest import harvest_one
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.observe.metrics import Metrics
from bohdi_ray.records import Sample, ScoreRequest
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.manager import TreeManager

CONFIG = make_config(
    tree={"depth": 2},
    meditation={"steps": 2, "walks_per_step": 6},
    enlightenment={"steps": 1, "rows_per_step": 4},
    harvest={"heldout_fraction": 0.3},
)
PLAN = HarvestPlan.from_config(CONFIG)


class Saying(ScriptedModels):
    """Scripted models that put `texts`, one after the other, into all they write but a judge's label."""

    def __init__(self, texts: tuple[str, ...]):
        super().__init__(sources=("source-a", "source-b"), target="target")
        self.texts = texts
        self.said: list[str] = []

    async def ask(self, model, request):
        done = await super().ask(model, request)
        if not self.texts or isinstance(request, ScoreRequest) or request.choices is not None:
            return done
        text = self.texts[len(self.requests) % len(self.texts)]
        if request.role != "sprout":
            text = f"{text}\n{done.text}"
        elif len(self.requests) % 2:  # else no tree would grow
            text = done.text
        self.said.append(text)
        return type(done)(**{name: getattr(done, name) for name in done.__slots__} | {"text": text})


def harvest(location: Path, models: Saying, rounds: int = 2) -> tuple[RunDir, list[Sample]]:
    """Runs `rounds` rounds of harvests into a run directory, each step's part before its segment."""
    run = RunDir.create(location, CONFIG, {"bohdi_ray": "0.1.0"})
    manager, store, journal = TreeManager(CONFIG), SampleStore(run), Segments(run)
    kept: list[Sample] = []
    number = 0
    with Metrics(run) as metrics:
        while manager.stats()["round"] < rounds:
            work = manager.work(0)
            step = manager.committable()
            if step is not None:
                tickets = [ticket for ticket in work.tickets if ticket.step == step]
                results = [asyncio.run(harvest_one(ticket, models, PLAN)) for ticket in tickets]
                outcomes = manager.screen(step, [outcome for outcome, _ in results])
                accepted = {outcome.ticket_id for outcome in outcomes if outcome.failure is None}
                samples = [sample for _, sample in results if sample is not None and sample.sample_id in accepted]
                part = store.write_part(work.round, step, to_table(samples)) if samples else ""
                manager.commit_step(step, outcomes, part)
                kept += samples
                counts = {name: n for outcome in outcomes for name, n in outcome.counts.items()}
                metrics.log("harvest", round=work.round, step=step, counts=counts, stats=manager.stats())
            elif work.sprouts:
                manager.propose(asyncio.run(sprout(work.sprouts[0], models, PLAN)))
                continue
            else:
                manager.close_round(work.round + 1, 0)
            journal.write_segment(number, manager.take_segment())
            number += 1
    return run, kept


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
