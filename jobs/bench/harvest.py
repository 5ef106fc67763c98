"""Tokens per second decoded inside real harvests against bare AsyncLLM on the same requests.

Harvest: one round of the real loop's harvest (`Harvester`: Ray tasks, RoutedModels, engine actors, tree manager,
journal, sample parts) with the quickstart's two sources and target on vLLM; the trainer is scripted and gets no rows,
so it uses no processor. Time runs from the first assignment to the last commit. The tree is seeded full, so that no
election is needed; `--from-root` lets it grow instead.

Bare: every request that reached an engine in that round (the same token ids and sampling parameters, seeds included)
goes straight into `AsyncLLM.generate` of the same engine: no Ray call per request, no chat template, no tokenizing, no
parsing, no judging, no order between requests. At most as many are in flight on each engine as the harvest had there
at its peak, in the order in which they arrived; the three engines run side by side, as in the harvest. So the ratio
holds everything that a harvest adds, that answers wait for their question and judges for their answers included.

Both are done in turn, on the same warm engines, with empty prefix caches. Seeds are the same, but other batches round
differently, so the numbers of decoded tokens differ a little; each rate counts its own.

The shape of a round matters: in one step of 32 tickets asked all at once, questions, answers and judges come one after
another on every ticket together, and engines are less full than bare ones throughout (`--steps 1 --walks 32 --tasks 4
--tickets 8`). `mean_in_flight` beside `most_in_flight` shows it. The default refills: 3 steps, 32 tickets at a time.

Usage: python jobs/bench/harvest.py [--walks 16] [--steps 3] [--repeats 2]      last line: one JSON object
"""

import argparse
import asyncio
import collections
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT), str(ROOT / "tests")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])

import ray  # noqa: E402
from scripted_parts import scripted_parts  # noqa: E402
from smoke import parse  # noqa: E402

from bohdi_ray.actors.engine_actor import EngineActor, actor_options, engine_spec  # noqa: E402
from bohdi_ray.actors.harvest_task import harvest_bundle  # noqa: E402
from bohdi_ray.config import FusionConfig  # noqa: E402
from bohdi_ray.config.loading import load_config  # noqa: E402
from bohdi_ray.driver.components import RunComponents, assembled  # noqa: E402
from bohdi_ray.driver.real_components import real_parts  # noqa: E402
from bohdi_ray.driver.session import active_run  # noqa: E402
from bohdi_ray.placement.placement import resolve_gpus  # noqa: E402
from bohdi_ray.placement.pools.placement_groups import EngineGroup  # noqa: E402
from bohdi_ray.records import Ticket, ticket_id  # noqa: E402
from bohdi_ray.run.environment import environment  # noqa: E402
from bohdi_ray.run.run_dir import RunDir  # noqa: E402
from bohdi_ray.studies.quickstart import prepare_models  # noqa: E402

WAIT_S = 300
WARM_UP_ROUND = 999
DOMAINS = """
Science: [Physics, Chemistry, Biology, Astronomy]
Arts: [Music, Painting, Theatre, Poetry]
Engineering: [Bridges, Engines, Computers, Aircraft]
Daily Life: [Cooking, Gardening, Cleaning, Travel]
Humanities: [History, Philosophy, Languages, Law]
Medicine: [Nutrition, Surgery, Vaccines, Sleep]
"""


class RecordingEngine(EngineActor):
    """The real engine actor; writes down what reaches vLLM, and can put the same through it again, bare."""

    async def start(self) -> Any:
        """As the engine's; then recording begins."""
        report = await super().start()
        answers = self._engine._answers
        self._decode = answers._decode
        answers._decode = self._recorded
        self.recorded: list[tuple[list[int], Any]] = []
        self.in_flight = self.peak = self.tokens = 0
        self.request_s = 0.0
        return report

    async def _recorded(self, token_ids: list[int], params: Any) -> Any:
        self.recorded.append((token_ids, params.clone()))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        began = time.monotonic()
        try:
            output = await self._decode(token_ids, params)
        finally:
            self.in_flight -= 1
            self.request_s += time.monotonic() - began
        self.tokens += len(output.outputs[0].token_ids)
        return output

    async def begin(self) -> None:
        """Forgets what was recorded."""
        self.recorded, self.peak, self.tokens, self.request_s = [], 0, 0, 0.0
        await self.forget_prefixes()

    async def forget_prefixes(self) -> None:
        """Both sides begin with an empty prefix cache."""
        await self._engine._llm.reset_prefix_cache()

    async def told(self) -> tuple[int, int, int, float]:
        """Requests, most in flight, decoded tokens, seconds of all requests added up, since `begin`."""
        return len(self.recorded), self.peak, self.tokens, self.request_s

    async def bare(self) -> int:
        """All recorded requests through AsyncLLM; the tokens decoded."""
        llm, places = self._engine._llm, asyncio.Semaphore(max(1, self.peak))

        async def one(number: int, token_ids: list[int], params: Any) -> int:
            async with places:
                last = None
                async for output in llm.generate({"prompt_token_ids": token_ids}, params.clone(), f"bare-{number}"):
                    last = output
                return len(last.outputs[0].token_ids)

        return sum(await asyncio.gather(*(one(i, *request) for i, request in enumerate(self.recorded))))


def make_engine(config: FusionConfig) -> Any:
    def make(model: Any, replica_id: str, version: int, weights_dir: str | None, group: EngineGroup) -> Any:
        spec = engine_spec(model, version, weights_dir, config)
        return ray.remote(**actor_options(model, group))(RecordingEngine).remote(spec)

    return make


def make_config(folder: str, options: argparse.Namespace) -> FusionConfig:
    overrides = [
        f"run_dir={folder}/run",
        f"meditation.steps={options.steps}",
        f"meditation.walks_per_step={options.walks}",
        f"harvest.max_tasks_in_flight={options.tasks}",
        f"harvest.tickets_per_task={options.tickets}",
        "harvest.max_staleness=2",
        f"stop.rounds={options.repeats}",
        "observe.console=quiet",
        "observe.tensorboard=false",
    ]
    if not options.from_root:
        seeds = Path(folder) / "domains.yaml"
        seeds.write_text(DOMAINS)
        overrides.append(f"tree.seed={seeds}")
    config = load_config(ROOT / "jobs/configs/quickstart.yaml", overrides)
    return resolve_gpus(config, cluster_has_gpus=False)


def handles(components: RunComponents) -> dict[str, Any]:
    return {name: replicas[0].handle for name, replicas in components.pools.table.replicas.items()}


async def each(components: RunComponents, method: str) -> dict[str, Any]:
    """One call on all engines at once."""
    engines = handles(components)
    calls = asyncio.gather(*(getattr(handle, method).remote() for handle in engines.values()))
    return dict(zip(engines, await asyncio.wait_for(calls, WAIT_S), strict=True))


async def warm_up(components: RunComponents, config: FusionConfig) -> float:
    """A few harvests on as many tasks as later: workers started, grammars compiled. Seconds."""
    began = time.monotonic()
    bundles = []
    for task in range(config.harvest.max_tasks_in_flight):
        tickets = [
            Ticket(ticket_id(WARM_UP_ROUND, task, i), WARM_UP_ROUND, task, i, ("Science", "Physics"), 0)
            for i in range(2)
        ]
        context = components.context
        bundles.append(harvest_bundle.remote(tickets, context.plan, components.pools.table, context.client_config)[0])
    await asyncio.wait_for(asyncio.gather(*bundles), WAIT_S)
    return time.monotonic() - began


async def measured(components: RunComponents, round: int) -> dict[str, Any]:
    """One round harvested, then the same requests bare."""
    await each(components, "begin")
    harvest = await asyncio.wait_for(components.harvester.run(round, 0), WAIT_S)
    harvest_s = harvest.finished - harvest.started
    told = await each(components, "told")
    await components.close_round(round, 0)
    num_tokens = sum(tokens for _, _, tokens, _ in told.values())
    await each(components, "forget_prefixes")
    began = time.monotonic()
    bare = await each(components, "bare")
    bare_s = time.monotonic() - began
    failures = collections.Counter(outcome.failure for outcome in harvest.outcomes if outcome.failure)
    result = {
        "tickets": harvest.num_tickets_done,
        "accepted": harvest.num_accepted,
        "failures": dict(failures),
        "requests": sum(n for n, _, _, _ in told.values()),
        "most_in_flight": {name: peak for name, (_, peak, _, _) in told.items()},
        "mean_in_flight": {name: seconds / harvest_s for name, (_, _, _, seconds) in told.items()},
        "harvest": {"tokens": num_tokens, "seconds": harvest_s, "tokens_per_s": num_tokens / harvest_s},
        "bare": {
            "tokens": sum(bare.values()),
            "seconds": bare_s,
            "tokens_per_s": sum(bare.values()) / bare_s,
        },
    }
    result["ratio"] = result["harvest"]["tokens_per_s"] / result["bare"]["tokens_per_s"]
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


async def measure(config: FusionConfig, repeats: int) -> dict[str, Any]:
    parts = dataclasses.replace(
        real_parts(),
        make_engine=make_engine,
        start_trainer=scripted_parts().start_trainer,
    )
    run = RunDir.create(config.run_dir, config, environment())
    started = time.monotonic()
    async with (
        active_run(config, run, parts.observers, time.time()) as (active, _),
        assembled(active, parts) as components,
    ):
        start_s = time.monotonic() - started
        warm_up_s = await warm_up(components, config)
        rounds = [await measured(components, round) for round in range(repeats)]
    ratios = [round["ratio"] for round in rounds]
    return {
        "ratio_to_bare": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repeats": repeats,
        "harvest_tokens_per_s": statistics.median(r["harvest"]["tokens_per_s"] for r in rounds),
        "bare_tokens_per_s": statistics.median(r["bare"]["tokens_per_s"] for r in rounds),
        "requests": sum(r["requests"] for r in rounds),
        "decoded_tokens": sum(r["harvest"]["tokens"] for r in rounds),
        "start_s": start_s,
        "warm_up_s": warm_up_s,
        "rounds": rounds,
        "cores": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=16, help="walks per step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=8, help="harvest tasks in flight")
    parser.add_argument("--tickets", type=int, default=4, help="tickets per task")
    parser.add_argument("--repeats", type=int, default=2, help="rounds, each harvested and then run bare")
    parser.add_argument("--from-root", action="store_true", help="no seeded domains: elections are part of the harvest")
    options = parse(parser, walks=3, steps=1, tasks=2, tickets=2, repeats=1)
    prepare_models()
    with tempfile.TemporaryDirectory() as folder:
        ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
        try:
            result = asyncio.run(measure(make_config(folder, options), options.repeats))
        finally:
            ray.shutdown()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
