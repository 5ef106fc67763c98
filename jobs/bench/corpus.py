"""Time and memory of indexing a corpus and of reading rows of it, JSON Lines and Parquet.

Writes files of rows of about `--kb` each (once, in a temporary folder or `--folder`): JSON Lines, Parquet in groups of
1,000 rows, and Parquet in groups so large that a run copies the rows. Makes a run's index of each in a process of its
own, and reads rows in the order in which tickets would.

Usage: python jobs/bench/corpus.py [--rows 1000000] [--kb 5] [--folder DIR]      last line: one JSON object
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from smoke import parse

READS = 200
MAIN, LEAVES = ("Arts", "Law", "Science"), ("Tools", "Words", "People", "Places")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kb", type=float, default=5.0, help="of a row")
    parser.add_argument("--folder", type=Path, help="keeps the files")
    parser.add_argument("--index", help=argparse.SUPPRESS)
    parser.add_argument("--most-group", type=int, help=argparse.SUPPRESS)
    options = parse(parser, rows=3000, kb=0.5, most_group=100_000)
    if options.index:
        print(json.dumps(indexed(options.index, options.most_group)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures: dict = {"rows": options.rows, "kb": options.kb}
        for name, file, group in (
            ("lines", "rows.jsonl", 0),
            ("parquet", "rows.parquet", 1000),
            ("parquet_huge_groups", "huge.parquet", 100_000),
        ):
            path = folder / file
            if not path.exists():
                write(path, options.rows, int(options.kb * 1000), group)
            command = [sys.executable, __file__, "--index", str(path)]
            command += ["--most-group", str(options.most_group)] if options.most_group else []
            done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
            if done.returncode:
                raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
            figures[name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(json.dumps(figures))


def write(path: Path, count: int, size: int, group: int) -> None:
    """Rows with a number, so that no two are alike."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    filler = "the light of a star bends when it passes near some mass because space itself is curved there " * (
        size // 94 + 1
    )

    def rows(first: int, last: int) -> list[dict]:
        return [
            {"prompt": f"Row {i}: {filler[: size - 80]}", "main": MAIN[i % 3], "leaf": LEAVES[i % 4]}
            for i in range(first, last)
        ]

    block = group or 5000
    blocks = [(first, min(first + block, count)) for first in range(0, count, block)]
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            for first, last in blocks:
                file.writelines(json.dumps(row) + "\n" for row in rows(first, last))
        return
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "main", "leaf")])
    with pq.ParquetWriter(path, schema) as writer:
        for first, last in blocks:
            writer.write_table(pa.Table.from_pylist(rows(first, last), schema=schema), row_group_size=block)


def indexed(path: str, most_group: int | None) -> dict:
    """Seconds and peak memory of one file, and milliseconds of one row. `most_group`: bytes from which on a row group
    is huge."""
    from bohdi_ray.config.kinds.questions import CorpusQuestions
    from bohdi_ray.questions.rows import files
    from bohdi_ray.questions.rows.stored import INDEX, reader_of, write_index
    from bohdi_ray.run.filesystem import place_of

    files.MOST_GROUP = most_group or files.MOST_GROUP
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    section = CorpusQuestions.model_validate({"kind": "corpus", "files": [path], "domains": ["main", "leaf"]})
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as run:
        began = time.perf_counter()
        write_index(section, place_of(run))
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        reader, index = reader_of(section, run)
        times = []
        for place in range(READS):
            leaf = index.leaves[place % len(index.leaves)]
            began = time.perf_counter()
            reader.prompt(index.address(leaf, place, 1))
            times.append(1000 * (time.perf_counter() - began))
        size = (Path(run) / INDEX).stat().st_size
    return {
        "index_s": seconds,
        "peak_mb": peak,
        "of_it_imports_mb": before,
        "file_mb": Path(path).stat().st_size / 1e6,
        "index_mb": size / 1e6,
        "copied": bool(index.files[0].copy),
        "leaves": len(index.leaves),
        "read_ms": statistics.median(times),
    }


if __name__ == "__main__":
    main()
