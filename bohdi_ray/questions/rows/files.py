"""The files of a corpus: found by path, pattern or address, their rows read one after another.

A row of JSON Lines is found again by its first byte and length, one of Parquet by its number. Both formats are read in
a stream: neither a file nor a row group is ever in memory as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from bohdi_ray.config.addresses import is_address
from bohdi_ray.errors import ConfigError
from bohdi_ray.run.filesystem import Place, place_of, storage_errors

FIELD = "questions.files"
BLOCK = 1 << 23  # bytes read at a time
MOST_LINE = 1 << 26  # bytes of one line
MOST_GROUP = 1 << 26  # bytes of a Parquet row group, decoded, that is read for one row
BATCH_ROWS = 256  # of Parquet, decoded at a time
Format = Literal["lines", "parquet"]
FORMATS: dict[str, Format] = {".jsonl": "lines", ".ndjson": "lines", ".parquet": "parquet"}
BOM = b"\xef\xbb\xbf"
_NOT_PARQUET = "Write it again with a current library, and with text as valid UTF-8."


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file. `digest`: of its whole content. `copy`: the name of JSON Lines with its rows, from which single rows
    are read where the file itself cannot be read row by row."""

    location: str
    format: Format
    size: int  # bytes
    changed_at: int  # ns since 1970, 0 where it is not known
    digest: str = ""
    copy: str = ""

    @property
    def place(self) -> Place:
        return place_of(self.location)


@dataclass(frozen=True, slots=True)
class Row:
    """A row where it was found."""

    position: int  # lines: its first byte; parquet: its number in the file
    length: int  # lines: its bytes; parquet: 0
    values: dict[str, Any]


# Which files there are.


def find_files(patterns: Sequence[str]) -> list[CorpusFile]:
    """The files that paths, addresses and patterns name, each once, in order of their location.

    Raises ConfigError for a pattern that names none, an empty file, and one of unknown format.
    """
    found: dict[str, CorpusFile] = {}
    for pattern in patterns:
        files = list(_named_by(pattern))
        if not files:
            remedy = "Correct the path; `*` stands for any part of a name, `**` for any folders."
            raise ConfigError(FIELD, pattern, "names no file", remedy)
        found |= {file.location: file for file in files}
    return [found[location] for location in sorted(found)]


def _named_by(pattern: str) -> Iterator[CorpusFile]:
    address, mark, query = pattern.partition("?") if is_address(pattern) else (pattern, "", "")
    if "*" not in address:
        root, rest = place_of(pattern), ""
    else:
        fixed = address.partition("*")[0].rpartition("/")[0]
        rest = address[len(fixed) :].lstrip("/")
        root = place_of((fixed + mark + query) or ("/" if address.startswith("/") else "."))
    with storage_errors(root.shown, "look at"):
        if not rest:
            infos = [root.filesystem.get_file_info(root.path)]
        else:
            deep = "/" in rest or "**" in rest
            infos = root.filesystem.get_file_info(pa.fs.FileSelector(root.path, allow_not_found=True, recursive=deep))
    wanted = _matcher(rest)
    for info in infos:
        name = info.path.removeprefix(root.path).lstrip("/")
        if info.type == pa.fs.FileType.File and (not rest or wanted.fullmatch(name)):
            yield _file(root.child(name) if rest else root, info)


def _matcher(pattern: str) -> re.Pattern[str]:
    """`*` stands for any characters of a name, `**/` for any folders or none."""
    parts = re.split(r"(\*\*/|\*+)", pattern)
    meanings = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return re.compile("".join(meanings.get(part, ".*" if part.startswith("*") else re.escape(part)) for part in parts))


def _file(place: Place, info: pa.fs.FileInfo) -> CorpusFile:
    suffix = f".{place.name.rpartition('.')[2].lower()}"
    if suffix not in FORMATS:
        rule = f"its format is none of {', '.join(FORMATS)}"
        remedy = "Write it as JSON Lines or Parquet; compressed JSON Lines cannot be read row by row, Parquet can."
        raise ConfigError(FIELD, place.shown, rule, remedy)
    if info.size == 0:
        raise ConfigError(FIELD, place.shown, "is empty", "Remove it from the list, or write it again.")
    return CorpusFile(place.location, FORMATS[suffix], info.size, info.mtime_ns or 0)


# Their rows.


class FileRows:
    """All rows of a file, once, with the values of some columns, None where a row has none. Iterating raises
    ConfigError for what is no JSON Lines or Parquet, and StorageFailed."""

    def __init__(self, file: CorpusFile, columns: Sequence[str]):
        self._file, self._columns = file, list(columns)
        self._digest = hashlib.blake2b(digest_size=16)
        self.seen: set[str] = set()  # names of all columns of the first row

    def __iter__(self) -> Iterator[Row]:
        place = self._file.place
        with _decoding(place), storage_errors(place.shown, "read"):
            yield from self._of_lines(place) if self._file.format == "lines" else self._of_parquet(place)

    def digest(self) -> str:
        """Of the file's whole content, 128 bits; after all rows."""
        place = self._file.place
        if self._file.format == "parquet":
            with storage_errors(place.shown, "read"), place.filesystem.open_input_stream(place.path) as stream:
                while block := stream.read(BLOCK):
                    self._digest.update(block)
        return self._digest.hexdigest()

    def _of_lines(self, place: Place) -> Iterator[Row]:
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for number, (position, line) in enumerate(self._lines(place), 1):
            text = line.removeprefix(BOM) if number == 1 else line
            if not text.strip():
                continue
            try:
                values = decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                rule = f"line {number} is no JSON object in UTF-8 ({str(error)[:200]})"
                raise ConfigError(FIELD, place.shown, rule, "Correct or remove that line.") from None
            self.seen = self.seen or set(values)
            yield Row(position, len(line), {name: values.get(name) for name in self._columns})

    def _lines(self, place: Place) -> Iterator[tuple[int, bytes]]:
        """(first byte, line without its end) of every line."""
        position, rest = 0, b""
        with place.filesystem.open_input_stream(place.path) as stream:
            while block := stream.read(BLOCK):
                self._digest.update(block)
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    yield position, line
                    position += len(line) + 1
                if len(rest) > MOST_LINE:
                    rule = f"the line from byte {position} is longer than {MOST_LINE >> 20} MB"
                    raise ConfigError(FIELD, place.shown, rule, "Remove it, or write one JSON object per line.")
        if rest:
            yield position, rest

    def _of_parquet(self, place: Place) -> Iterator[Row]:
        with open_parquet(place) as parquet:
            self.seen = set(parquet.schema_arrow.names)
            known = [name for name in self._columns if name in self.seen]
            position = 0
            for batch in parquet.iter_batches(BATCH_ROWS, columns=known):
                for values in batch.to_pylist():
                    yield Row(position, 0, {name: values.get(name) for name in self._columns})
                    position += 1


@contextlib.contextmanager
def _decoding(place: Place) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise
        raise ConfigError(FIELD, place.shown, f"cannot be decoded ({str(error)[:200]})", _NOT_PARQUET) from None


def open_parquet(place: Place) -> pq.ParquetFile:
    """Raises ConfigError for what is no Parquet."""
    with _decoding(place), storage_errors(place.shown, "read"):
        return pq.ParquetFile(place.filesystem.open_input_file(place.path), buffer_size=1 << 20, pre_buffer=False)


def has_huge_groups(file: CorpusFile, columns: Sequence[str]) -> bool:
    """Whether a row group is too large to be read for the sake of one row."""
    if file.format != "parquet":
        return False
    with open_parquet(file.place) as parquet:
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            chunks = [group.column(i) for i in range(group.num_columns)]
            if sum(c.total_uncompressed_size for c in chunks if _is_of(c.path_in_schema, columns)) > MOST_GROUP:
                return True
    return False


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf of the schema belongs to one of the columns, whose names may have points."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def copied(rows: Iterator[Row], into: Place) -> Iterator[Row]:
    """The rows, each written as a line of JSON to a file, with their addresses there."""
    encode, position = msgspec.json.encode, 0
    into.make_parent()
    with storage_errors(into.shown, "write"), into.filesystem.open_output_stream(into.path) as stream:
        for row in rows:
            line = encode(row.values)
            stream.write(line + b"\n")
            yield Row(position, len(line), row.values)
            position += len(line) + 1
