"""How often ways of judging choose a right answer, all on the same answers: those of a miniature's finished fusion.

Usage: python jobs/bench/judges.py OUT RUN [OUT RUN ...]
OUT is a miniature and RUN what `bohdi miniature fuse OUT` left.
Every model of a run scores the eligible answers of its samples in plain transformers, the target with the weights it
answered with. Counted are samples with a right and another answer; several runs are counted together.
Last line: one JSON object.
"""

import argparse
import json
import sys
from pathlib import Path

from bohdi_ray.miniature.answering import log_probabilities
from bohdi_ray.miniature.judging import Contest, Rows, contests, show, tally
from bohdi_ray.miniature.truth import read_world
from bohdi_ray.storage.run_dir import RunDir, weights_dir
from bohdi_ray.storage.samples import SampleStore


def scored(out: Path, folder: Path) -> tuple[list[tuple[Contest, Rows]], str]:
    """The contests of one run, each with what every model gives to its answers; and the target's name."""
    run = RunDir.open(str(folder))
    config = run.config()
    found = contests(read_world(out), list(SampleStore(run).iter_samples()), config.target.name)
    rows: list[dict[str, dict[str, float]]] = [{} for _ in found]

    def score(scorer: str, model: str, which: list[int]) -> None:
        pairs = [(found[i].question, text) for i in which for text in found[i].texts.values()]
        values = iter(log_probabilities(model, pairs))
        for i in which:
            rows[i][scorer] = {author: next(values) for author in found[i].texts}

    for source in config.sources:
        score(source.name, source.model, list(range(len(found))))
    for version in sorted({contest.target_version for contest in found}):
        which = [i for i, contest in enumerate(found) if contest.target_version == version]
        score(config.target.name, run.path(weights_dir(version)), which)
    return list(zip(found, rows, strict=True)), config.target.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="OUT RUN")
    folders = parser.parse_args().folders
    if len(folders) % 2:
        parser.error("give a miniature and its run, or several such pairs")
    every: list[tuple[Contest, Rows]] = []
    for out, run in zip(folders[::2], folders[1::2], strict=True):
        print(f"{run}: scoring", file=sys.stderr, flush=True)
        found, target = scored(out, run)
        every += found
    plain = tally(every, target)
    print(show(plain))
    print(json.dumps(plain))


if __name__ == "__main__":
    main()
