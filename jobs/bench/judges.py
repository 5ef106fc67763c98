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
import tempfile
from pathlib import Path

from smoke import parse

from bohdi_ray.studies.miniature.build import build
from bohdi_ray.studies.miniature.judging import Contest, Rows, show, tally
from bohdi_ray.studies.miniature.program import fuse_and_tell, scored_contests
from bohdi_ray.studies.miniature.sizes import TARGET, TINY


def small_fusion(folder: Path) -> list[Path]:
    """A miniature made here and one round's fusion of it."""
    build(folder / "world", TINY, 0, lambda text: print(text, file=sys.stderr))
    overrides = [f"run_dir={folder / 'run'}", "stop.rounds=1", "observe.console=quiet"]
    fuse_and_tell(folder / "world", overrides, None, lambda text: None)
    return [folder / "world", folder / "run"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="OUT RUN")
    options = parse(parser)
    folders = small_fusion(Path(tempfile.mkdtemp())) if options.smoke else options.folders
    if not folders or len(folders) % 2:
        parser.error("give a miniature and its run, or several such pairs")
    every: list[tuple[Contest, Rows]] = []
    for out, run in zip(folders[::2], folders[1::2], strict=True):
        print(f"{run}: scoring", file=sys.stderr, flush=True)
        every += scored_contests(out, str(run))
    plain = tally(every, TARGET)
    print(show(plain))
    print(json.dumps(plain))


if __name__ == "__main__":
    main()
