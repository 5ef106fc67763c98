"""Reads single rows of a corpus by their address. Called by harvest tasks; safe from several threads.

Of Parquet a row group is the least that can be read, so the newest ones are kept, decoded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import msgspec
import pyarrow as pa

from bohdi_ray.config.kinds.questions import CorpusQuestions
from bohdi_ray.errors import BohdiError
from bohdi_ray.questions.rows.files import BOM, CorpusFile, open_parquet
from bohdi_ray.questions.rows.index import CorpusIndex, RowAddress, columns_of, document_hash
from bohdi_ray.questions.rows.prompt import Unusable, prompt_of
from bohdi_ray.run.filesystem import Place, storage_errors

KEPT_BYTES = 1 << 27  # of decoded row groups in one process
KEPT_FILES = 32  # open in one process


class RowUnreadable(BohdiError):
    """A row of the corpus is not there, or not what it was when the run began."""


class RowReader:
    def __init__(self, section: CorpusQuestions, index: CorpusIndex, copies: Place | None = None):
        """`copies`: the folder with the rows of files from which single rows cannot be read."""
        self._section, self._index, self._copies = section, index, copies
        self._columns = columns_of(section)
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()

    def prompt(self, address: RowAddress) -> str:
        """The row's prompt. Raises RowUnreadable and StorageFailed."""
        file = self._index.files[address.file]
        place = self._copies.child(file.copy) if file.copy and self._copies is not None else file.place
        try:
            with self._lock, storage_errors(place.shown, "read"):
                if file.copy or file.format == "lines":
                    values = self._line(address, place)
                else:
                    values = self._of_parquet(address, place)
        except FileNotFoundError:
            raise _unreadable(file, "is not on this node, and all nodes must see it") from None
        except (pa.ArrowException, msgspec.MsgspecError, UnicodeDecodeError, LookupError):
            raise _unreadable(file, "is not what it was when the run began") from None
        text = prompt_of(values.get(self._section.prompt), self._section.max_chars)
        document = values.get(self._section.document) if self._section.document else None
        if isinstance(text, Unusable) or document_hash(text, document) != address.document:
            raise _unreadable(file, "is not what it was when the run began")
        return text

    def _line(self, address: RowAddress, place: Place) -> dict[str, Any]:
        source = self._source(address.file, lambda: place.filesystem.open_input_file(place.path))
        line = source.read_at(address.length, address.position)
        return msgspec.json.decode(line.removeprefix(BOM), type=dict[str, Any])

    def _of_parquet(self, address: RowAddress, place: Place) -> dict[str, Any]:
        parquet = self._source(address.file, lambda: open_parquet(place))
        left = address.position
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            if left < size:
                return self._group(address.file, group, parquet).slice(left, 1).to_pylist()[0]
            left -= size
        raise LookupError(address)

    def _source(self, file: int, opened: Any) -> Any:
        if file not in self._open:
            self._open[file] = opened()
            if len(self._open) > KEPT_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(file)
        return self._open[file]

    def _group(self, file: int, group: int, parquet: Any) -> pa.Table:
        key = file, group
        if key not in self._groups:
            known = [name for name in self._columns if name in parquet.schema_arrow.names]
            self._groups[key] = parquet.read_row_group(group, columns=known)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _unreadable(file: CorpusFile, why: str) -> RowUnreadable:
    return RowUnreadable(
        f"a row of {file.place.shown} cannot be read: the file {why}. Put it back and continue with "
        "`bohdi resume RUN`, or begin a new run."
    )
