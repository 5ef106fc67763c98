"""Where every usable row of a corpus is, and which leaf it belongs to: built in one pass over the files before a run
starts, kept as one Arrow file, 28 bytes a row.

The n-th ticket of a leaf takes the n-th row of the leaf's order, which the run's seed, the leaf and the epoch decide.
Rows of one document (the same value of `questions.document`, else the same prompt) have one document hash, by which
held-out and stage are decided, so that no document is on both sides.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa

from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.engines.chat.turns import turns_of
from bohdi_ray.errors import ConfigError, RunDirError
from bohdi_ray.languages.names import name_key
from bohdi_ray.questions.rows.files import FIELD, CorpusFile, FileRows, copied, has_huge_groups
from bohdi_ray.questions.rows.prompt import Unusable, prompt_of
from bohdi_ray.records import DomainPath
from bohdi_ray.run.filesystem import Place
from bohdi_ray.tree.names import valid_name

VERSION = 1
KEY = b"bohdi_ray.corpus"
ONLY_LEAF: DomainPath = ("Corpus",)  # where no column names domains
COLUMNS = {"file": pa.int32(), "position": pa.int64(), "length": pa.int64(), "document": pa.uint64()}
SHOWN_NAMES = 5  # of invalid domains in an error
_NO_LETTER = re.compile(r"[\W_\u0640]+")


@dataclass(frozen=True, slots=True)
class RowAddress:
    """A row, and the epoch in which it is drawn."""

    file: int  # its place in `CorpusIndex.files`
    position: int
    length: int
    document: int  # 64-bit hash
    epoch: int


@dataclass(frozen=True)
class CorpusIndex:
    """All usable rows, leaf by leaf. `rows` has arrays with one entry per row; `starts` one per leaf and one more."""

    files: tuple[CorpusFile, ...]
    leaves: tuple[DomainPath, ...]
    starts: np.ndarray
    rows: Mapping[str, np.ndarray]  # by the names in COLUMNS
    unusable: Mapping[str, int]  # rows by what is wrong with them
    num_repeated: int  # rows whose document an earlier row has
    num_conversations: int
    needs_copies: bool = False  # some rows cannot be read from their files one by one, and were not copied

    @property
    def num_rows(self) -> int:
        return int(self.starts[-1])

    @property
    def rows_by_leaf(self) -> dict[DomainPath, int]:
        return {leaf: end - start for leaf, (start, end) in self._spans.items()}

    def num_rows_of(self, leaf: DomainPath) -> int:
        start, end = self._spans[leaf]
        return end - start

    @cached_property
    def _spans(self) -> dict[DomainPath, tuple[int, int]]:
        starts = self.starts.tolist()
        return dict(zip(self.leaves, pairwise(starts), strict=True))

    def address(self, leaf: DomainPath, place: int, seed: int) -> RowAddress:
        """The row of the leaf's ticket number `place`, counted from 0 over all epochs."""
        start, end = self._spans[leaf]
        epoch, nth = divmod(place, end - start)
        return self.address_of(start + int(_order(seed, leaf, epoch, end - start)[nth]), epoch)

    def address_of(self, row: int, epoch: int = 0) -> RowAddress:
        file, position, length, document = (int(self.rows[name][row]) for name in COLUMNS)
        return RowAddress(file, position, length, document, epoch)


@lru_cache(maxsize=16)  # a million rows of one leaf take 0.1 s and 8 MB
def _order(seed: int, leaf: DomainPath, epoch: int, size: int) -> np.ndarray:
    """The order of a leaf's rows: by a hash of each number (splitmix64). Places are journalled and rows are not, so it
    must be the same with every version of numpy, which its own shuffles do not promise."""
    key = hashlib.blake2b("\x1f".join(map(str, (seed, *leaf, epoch))).encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        x = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(int.from_bytes(key, "little"))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.argsort(x, kind="stable")


def build_index(section: CorpusQuestions, found: Sequence[CorpusFile], copies: Place | None = None) -> CorpusIndex:
    """Reads all files that were found, once. Into the folder `copies` go the rows of those from which single rows
    cannot be read; without it the index serves for counting alone.

    Raises ConfigError for what the run could not work with, and StorageFailed.
    """
    files, columns = list(found), columns_of(section)
    building, needs_copies = _Building(section), False
    for number, file in enumerate(files):
        file_rows, copy = FileRows(file, columns), ""
        rows = iter(file_rows)
        huge = has_huge_groups(file, columns)
        needs_copies = needs_copies or (huge and copies is None)
        if huge and copies is not None:
            copy = f"rows-{number}.jsonl"
            rows = copied(rows, copies.child(copy))
        with_value: Counter[str] = Counter()
        for row in rows:
            with_value.update(name for name, value in row.values.items() if value is not None)
            building.add(number, row.position, row.length, row.values)
        _check_columns(section, file, with_value, file_rows.seen)
        files[number] = replace(file, digest=file_rows.digest(), copy=copy)
    return replace(building.index(files), needs_copies=needs_copies)


def columns_of(section: CorpusQuestions) -> list[str]:
    """The columns that are read of every row."""
    names = (section.prompt, *section.domains, section.document)
    return list(dict.fromkeys(name for name in names if name is not None))


def _check_columns(section: CorpusQuestions, file: CorpusFile, with_value: Counter[str], there: set[str]) -> None:
    columns = [("prompt", section.prompt), *(("domains", name) for name in section.domains)]
    columns += [("document", section.document)] if section.document is not None else []
    for field, name in columns:
        if not with_value[name]:
            rule = f"no row of {file.place.shown} has a value in this column"
            remedy = f"Name a column that all files have; this one has {', '.join(sorted(there)) or 'none'}."
            raise ConfigError(f"questions.{field}", name, rule, remedy)


class _Building:
    """The rows so far."""

    def __init__(self, section: CorpusQuestions):
        self._section = section
        codes = {pa.int32(): "i", pa.int64(): "q", pa.uint64(): "Q"}
        self._columns = {name: array(codes[kind]) for name, kind in COLUMNS.items()}
        self._leaf = array("i")
        self._leaves: dict[DomainPath, int] = {}
        self._paths: dict[tuple[str, ...], int | None] = {}  # leaf by the columns' values
        self._spelling: dict[tuple[str, ...], str] = {}  # of the last of some names, by all their keys
        self._invalid: list[str] = []  # values that are no domain's name
        self._unusable: Counter[str] = Counter()
        self._num_conversations = 0

    def add(self, file: int, position: int, length: int, values: Mapping[str, object]) -> None:
        prompt = prompt_of(values[self._section.prompt], self._section.max_chars)
        if isinstance(prompt, Unusable):
            self._unusable[prompt.reason] += 1
            return
        leaf = self._leaf_of([values[name] for name in self._section.domains])
        if leaf is None:
            self._unusable["row_no_domain"] += 1
            return
        document = values[self._section.document] if self._section.document else None
        row = {"file": file, "position": position, "length": length, "document": document_hash(prompt, document)}
        for name, value in row.items():
            self._columns[name].append(value)
        self._leaf.append(leaf)
        self._num_conversations += len(turns_of(prompt)) > 1

    def _leaf_of(self, values: list[object]) -> int | None:
        """None for a row without a domain."""
        if not values:
            return self._leaves.setdefault(ONLY_LEAF, 0)
        if any(value is None or not str(value).strip() for value in values):
            return None
        key = tuple(map(str, values))
        if key not in self._paths:
            self._paths[key] = self._new_leaf(key)
        return self._paths[key]

    def _new_leaf(self, values: tuple[str, ...]) -> int | None:
        path, keys = list[str](), list[str]()
        for value in values:
            name = valid_name(value)
            if name is None:
                self._invalid.append(value[:60])
                return None
            keys.append(name_key(name))
            path.append(self._spelling.setdefault(tuple(keys), name))  # whichever came first
        return self._leaves.setdefault(tuple(path), len(self._leaves))

    def index(self, files: Sequence[CorpusFile]) -> CorpusIndex:
        self._check()
        leaves = list(self._leaves)
        order_of_leaves = sorted(range(len(leaves)), key=lambda i: leaves[i])
        rank = np.empty(len(leaves), np.int64)
        rank[order_of_leaves] = np.arange(len(leaves))
        leaf = rank[np.frombuffer(self._leaf, np.int32)]
        order = np.argsort(leaf, kind="stable")
        starts = np.concatenate(([0], np.cumsum(np.bincount(leaf, minlength=len(leaves)))))
        rows = {name: np.asarray(column)[order] for name, column in self._columns.items()}
        repeated = len(leaf) - len(np.unique(rows["document"]))
        paths = tuple(leaves[i] for i in order_of_leaves)
        return CorpusIndex(tuple(files), paths, starts, rows, dict(self._unusable), repeated, self._num_conversations)

    def _check(self) -> None:
        section = self._section
        if self._invalid:
            shown = ", ".join(f"'{name}'" for name in self._invalid[:SHOWN_NAMES])
            rule = f"{len(self._invalid)} values are no domain's name ({shown})"
            remedy = "Rename them in the files: a name is 1 to 3 words of letters (docs/languages.md)."
            raise ConfigError("questions.domains", section.domains, rule, remedy)
        if not self._leaf:
            why = ", ".join(f"{reason} {count}" for reason, count in self._unusable.most_common())
            rule = f"no row can be used ({why or 'there are none'})"
            raise ConfigError(FIELD, section.files, rule, "Correct the files, or the names of the columns.")


def document_hash(prompt: str, document: object) -> int:
    """64 bits of the document's name, or of the letters and digits of the prompt where there is none: prompts that are
    the same question (`languages/questions.py`) are one document."""
    if document is not None:
        text = f"\x1d{document}"
    elif prompt.isascii():
        text = _NO_LETTER.sub("", prompt).lower()
    else:
        text = _NO_LETTER.sub("", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt).casefold()))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def to_bytes(index: CorpusIndex) -> pa.Buffer:
    """The index as an Arrow file."""
    facts = {
        "version": VERSION,
        "files": [asdict(file) for file in index.files],
        "leaves": index.leaves,
        "starts": index.starts.tolist(),
        "unusable": dict(index.unusable),
        "num_repeated": index.num_repeated,
        "num_conversations": index.num_conversations,
    }
    schema = pa.schema(list(COLUMNS.items()), metadata={KEY: json.dumps(facts).encode()})
    table = pa.table({name: index.rows[name] for name in COLUMNS}, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_bytes(data: bytes | pa.Buffer, where: str) -> CorpusIndex:
    """Raises RunDirError for anything that this version cannot have written."""
    try:
        table = pa.ipc.open_file(data).read_all()
        facts = json.loads(table.schema.metadata[KEY])
        if facts.pop("version") != VERSION:
            raise ValueError("another version")
        facts["leaves"] = tuple(tuple(path) for path in facts["leaves"])
        facts["files"] = tuple(CorpusFile(**file) for file in facts["files"])
        facts["starts"] = np.asarray(facts["starts"], np.int64)
        return CorpusIndex(rows={name: table[name].to_numpy() for name in COLUMNS}, **facts)
    except (pa.ArrowException, LookupError, TypeError, ValueError, OSError) as error:
        raise RunDirError(
            f"{where} cannot be read ({error}); it is damaged or another version wrote it. Restore it from a copy, or "
            "begin a new run."
        ) from error
