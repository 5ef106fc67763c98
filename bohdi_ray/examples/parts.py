"""Parquet parts whose rows are read by id: row groups of at most 8 MB, of which only those with a wanted id are read.

Used by the stores of this room. A part is written at once and never changed; a damaged one is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from bohdi_ray.errors import RunDirError
from bohdi_ray.run.run_dir import RunDir

GROUP_BYTES = 8_000_000  # a row group's, uncompressed; a longer row has a group of its own
# What pyarrow raises for a file that is damaged, foreign or cut off.
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError)


def write_part(run: RunDir, name: str, table: pa.Table) -> None:
    """Stores a table below the run directory. Atomic, so that writing it again does no harm."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", compression_level=1, write_page_checksum=True
    ) as writer:
        for piece in _pieces(table):
            writer.write_table(piece, row_group_size=max(1, piece.num_rows))
    run.write_bytes(name, sink.getvalue())


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """The table in order, halved until each piece is small enough."""
    if table.num_rows < 2 or table.nbytes <= GROUP_BYTES:
        yield table
        return
    half = table.num_rows // 2
    yield from _pieces(table.slice(0, half))
    yield from _pieces(table.slice(half))


def read_part(
    run: RunDir,
    name: str,
    columns: Sequence[str] | None = None,
    ids: tuple[str, Collection[str]] | None = None,
) -> pa.Table:
    """A part, or some of its columns; with `ids` (id column, wanted ids) only row groups that may contain one of them.

    Raises RunDirError if it is missing or damaged.
    """
    where = run.shown(name)
    try:
        with run.filesystem.open_input_file(run.path(name)) as source:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            groups = range(file.num_row_groups) if ids is None else list(_groups_with(file.metadata, *ids))
            table = file.read_row_groups(list(groups), columns=None if columns is None else list(columns))
        table.validate(full=True)
    except FileNotFoundError as error:
        raise RunDirError(f"{where} is missing; restore it from a copy") from error
    except UNREADABLE as error:
        raise RunDirError(f"{where} cannot be read ({error!r:.300}); restore it from a copy") from error
    return table


def _groups_with(metadata: pq.FileMetaData, column: str, wanted: Collection[str]) -> Iterator[int]:
    """Row groups that may contain one of these ids; all groups if a file has no statistics about them."""
    index = metadata.schema.names.index(column) if column in metadata.schema.names else None
    for number in range(metadata.num_row_groups):
        bounds = None
        if index is not None:
            with contextlib.suppress(AttributeError):
                statistics = metadata.row_group(number).column(index).statistics
                bounds = (statistics.min, statistics.max) if statistics.has_min_max else None
        if bounds is None or any(bounds[0] <= one <= bounds[1] for one in wanted):
            yield number
