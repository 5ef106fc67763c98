"""A run's samples as a data set for others: Parquet and JSONL in the shapes Hugging Face datasets and TRL read.

No value is ever null and no list empty: `datasets` takes a JSONL column's type from the first block of rows, and a
column that is null or empty there cannot hold anything later.

`sft`: `messages` (user, assistant). `preference`: `prompt`, `chosen`, `rejected`, each a list of messages. Called by
`bohdi export`; reads the run, writes only the output folder. Only samples that the journal committed count: the part of
a step that was cut short is not looked at. It never guesses a licence.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.engines.chat.turns import turns_of
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.examples.dataset_card import dataset_card
from bohdi_ray.examples.sample_store import SampleStore
from bohdi_ray.languages.terminal_text import json_text
from bohdi_ray.records import Candidate, Sample
from bohdi_ray.run.run_dir import RunDir
from bohdi_ray.run.segments import Segments
from bohdi_ray.tree.record.history import read_history

Format = Literal["sft", "preference"]
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ABOUT = [
    ("sample_id", pa.string()),
    ("domain", pa.list_(pa.string())),
    ("style", pa.string()),
    ("leader", pa.string()),
    ("round", pa.int32()),
    ("margin", pa.float64()),  # of an answer that was compared with none: 0, with num_eligible 1
    ("num_eligible", pa.int32()),
]
SCHEMAS = {
    "sft": pa.schema([("messages", _MESSAGES), ("answered_by", pa.string()), ("reward", pa.int8()), *_ABOUT]),
    "preference": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("chosen", _MESSAGES),
            ("rejected", _MESSAGES),
            ("chosen_by", pa.string()),
            ("rejected_by", pa.string()),
            ("pair", pa.string()),
            *_ABOUT,
        ]
    ),
}
_ROWS_PER_GROUP = 1000


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export. `min_margin` is the least lead of the better answer, in the judge's scores. With 0, SFT
    rows need no lead and preference pairs any positive lead: a tie is never a preference."""

    format: Format = "sft"
    splits: tuple[Split, ...] = SPLITS
    min_margin: float = 0.0


@dataclass
class Exported:
    """The number of rows written, by split, and of rows left out, by reason."""

    rows: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    damaged: str | None = None  # what is wrong with the journal's last segment, whose samples are left out


def export(run: RunDir, out: Path, options: ExportOptions) -> Exported:
    """Write `out`/<split>.parquet, `out`/<split>.jsonl and `out`/README.md; `out` appears only when all of them are
    complete.

    Raises ConfigError if `out` already holds something or cannot be written, RunDirError if the run is damaged or gives
    no row. A split without rows gets no files.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError("out", str(out), "it already exists and is not empty", "Choose a new folder.")
        whole = out.absolute()
        whole.parent.mkdir(parents=True, exist_ok=True)
        begun = whole.with_name(f".{whole.name}.tmp-{uuid.uuid4().hex}")
        begun.mkdir()
        try:
            done = _export(run, begun, options)
            begun.replace(whole)
        except BaseException:
            shutil.rmtree(begun, ignore_errors=True)
            raise
    except OSError as error:
        remedy = "Choose another folder, or free some space and correct its permissions."
        raise ConfigError("out", str(out), f"it cannot be written ({error})", remedy) from error
    return done


def _export(run: RunDir, out: Path, options: ExportOptions) -> Exported:
    config = run.config()
    parts, damaged = committed_parts(run)
    done = Exported(damaged=damaged)
    with ExitStack() as stack:
        writers: dict[str, _Writer] = {}
        for sample in SampleStore(run).iter_samples(parts):
            split: Split = "heldout" if sample.heldout else "train"
            if split not in options.splits:
                done.left_out[f"split {split} not asked for"] += 1
                continue
            for row in rows_of(sample, config.target.name, options, done.left_out):
                if split not in writers:
                    writers[split] = stack.enter_context(_Writer(out, split, SCHEMAS[options.format]))
                writers[split].write(row)
                done.rows[split] = done.rows.get(split, 0) + 1
    if not done.rows:
        raise RunDirError(
            f"{run.location} gives no row for format {options.format} with min_margin {options.min_margin}; "
            f"left out: {dict(done.left_out) or 'nothing, it holds no sample'}"
        )
    done.rows = {split: done.rows[split] for split in SPLITS if split in done.rows}
    done.files = [f"{split}.{suffix}" for split in done.rows for suffix in ("parquet", "jsonl")]
    card = dataset_card(config, run.environment(), options.format, options.min_margin, done.rows, done.left_out)
    (out / "README.md").write_text(card, encoding="utf-8")
    return done


def committed_parts(run: RunDir) -> tuple[list[str], str | None]:
    """The parts of samples that the journal's segments name, in commit order (a step without an accepted sample has
    none), and what is wrong with the last segment if it had to be skipped."""
    read = Segments(run).read_segments()
    rounds = read_history(data for _, data in read.segments)
    return [part for record in rounds for part in record.parts], read.damaged


def rows_of(sample: Sample, target: str, options: ExportOptions, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows made from one sample; rows that it cannot give are counted in `left_out`. Pure."""
    if options.format == "sft":
        if options.min_margin > 0 and (sample.verdict.margin or 0.0) < options.min_margin:
            left_out["margin below min_margin"] += 1
            return
        yield _sft_row(sample)
        return
    eligible = {candidate.model: candidate for candidate in sample.candidates if candidate.rejected is None}
    scored = {model: score for model, score in sample.verdict.scores.items() if model in eligible}
    if len(scored) < 2:
        left_out["single eligible answer"] += 1
        return
    winner = sample.verdict.winner
    worst = min(scored.keys() - {winner}, key=lambda model: (scored[model], model))
    pairs = {worst: "best_worst"}
    if sample.reward == 1 and target in scored:
        pairs[target] = "best_worst+source_target" if worst == target else "source_target"
    for loser, pair in pairs.items():
        margin = scored[winner] - scored[loser]
        if margin <= 0:
            left_out["tie"] += 1
        elif margin < options.min_margin:
            left_out["margin below min_margin"] += 1
        elif eligible[loser].text == eligible[winner].text:
            left_out["equal texts"] += 1
        else:
            yield _preference_row(sample, eligible[winner], eligible[loser], pair, margin)


def _messages(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _prompt(sample: Sample) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns_of(sample.question)]


def _about(sample: Sample, margin: float | None) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id,
        "domain": list(sample.path),
        "style": sample.style,
        "leader": sample.leader,
        "round": sample.round,
        "margin": 0.0 if margin is None else float(margin),
        "num_eligible": sum(candidate.rejected is None for candidate in sample.candidates),
    }


def _sft_row(sample: Sample) -> dict[str, Any]:
    return {
        "messages": _prompt(sample) + _messages("assistant", sample.answer),
        "answered_by": sample.verdict.winner,
        "reward": sample.reward,
        **_about(sample, sample.verdict.margin),
    }


def _preference_row(sample: Sample, best: Candidate, other: Candidate, pair: str, margin: float) -> dict[str, Any]:
    return {
        "prompt": _prompt(sample),
        "chosen": _messages("assistant", best.text),
        "rejected": _messages("assistant", other.text),
        "chosen_by": best.model,
        "rejected_by": other.model,
        "pair": pair,
        **_about(sample, margin),
    }


class _Writer:
    """One split as Parquet and JSONL at once, a group of rows in memory at a time."""

    def __init__(self, out: Path, split: str, schema: pa.Schema):
        self._schema = schema
        self._parquet = pq.ParquetWriter(out / f"{split}.parquet", schema, compression="zstd")
        self._jsonl = (out / f"{split}.jsonl").open("w", encoding="utf-8")
        self._rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        self._jsonl.write(json_text(row) + "\n")
        self._rows.append(row)
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._rows:
            self._write_group()
        self._parquet.close()
        self._jsonl.close()
