"""A block: one immutable, sorted Parquet file, read row group by row group.

A file is verified whole against its catalog checksum when a process first opens it, so that no flipped byte is served.
An open block keeps its file handle: removal of the file does not disturb those who read it.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kymograph.errors import Corrupt
from kymograph.local.cache import ColumnCache
from kymograph.local.catalog import BlockRow
from kymograph.local.files import storage_errors
from kymograph.local.rows import Ints, SeriesIndex
from kymograph.local.samples import VALUE, is_stored, restored, series_index, series_offsets
from kymograph.model.schema import SERIES_ID, TableSchema
from kymograph.model.time import TIME, micros_of


class OpenBlock:
    """An open, verified file. Shared by the scans that read it; closes with the last reference."""

    def __init__(self, path: Path, row: BlockRow, labels: Sequence[str]) -> None:
        with storage_errors(path):
            try:
                self.source = pa.OSFile(str(path))
            except FileNotFoundError:
                raise Corrupt(f"block {row.path} is missing", hint="run kymo check --repair") from None
        _verify(path, row)
        self.lock = threading.Lock()
        # no page CRC check: the whole file has just been verified
        try:
            self.file = open_parquet(self.source, labels)
        except (pa.ArrowException, OSError) as problem:
            raise Corrupt(f"block {row.path} cannot be read: {problem}") from None
        self.columns: pa.Schema = self.file.schema_arrow
        metadata = self.file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.starts: Ints = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    @cached_property
    def bounds(self) -> list[dict[str, tuple[Any, Any]]]:
        """Per row group (min, max) of time in µs and of the first label, where the file has them."""
        metadata = self.file.metadata
        names = self.columns.names
        found = []
        for group in range(metadata.num_row_groups):
            ranges = {}
            for name in names[:2]:
                statistics = metadata.row_group(group).column(names.index(name)).statistics
                if statistics is not None and statistics.has_min_max and not statistics.null_count:
                    ranges[name] = (
                        (statistics.min_raw, statistics.max_raw) if name == TIME else (statistics.min, statistics.max)
                    )
            found.append(ranges)
        return found

    @cached_property
    def integer_bounds(self) -> dict[str, tuple[Ints, Ints]]:
        """Least and largest of each row group, of those columns of `bounds` that are integers in all of them."""
        found = {}
        for name in self.columns.names[:2]:
            ranges = [group.get(name, (None, None)) for group in self.bounds]
            if all(type(bound) is int for pair in ranges for bound in pair):
                low, high = np.array(ranges, np.int64).reshape(-1, 2).T
                found[name] = (low, high)
        return found

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        try:
            with self.lock:
                return self.file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as problem:
            raise Corrupt(f"a block cannot be read: {problem}", hint="run kymo check --repair") from None


def open_parquet(source: Any, labels: Sequence[str], *, check_pages: bool = False) -> pq.ParquetFile:
    """A block's file, those of a table's labels that it has read as dictionaries."""
    try:
        return pq.ParquetFile(source, read_dictionary=list(labels), page_checksum_verification=check_pages)
    except KeyError:  # written before one of them came
        there = set(pq.ParquetFile(source).schema_arrow.names)
        return open_parquet(source, [label for label in labels if label in there], check_pages=check_pages)


def _verify(path: Path, row: BlockRow) -> None:
    crc, size = file_checksum(path)
    if size != row.bytes or crc != row.checksum:
        raise Corrupt(
            f"block {row.path} is damaged: {size} bytes with checksum {crc:08x}, written as {row.bytes} with {row.checksum:08x}",
            hint="run kymo check --repair",
        )


def file_checksum(path: Path) -> tuple[int, int]:
    """CRC-32 and size of a file."""
    crc = size = 0
    with storage_errors(path), open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := file.read(1 << 20):
            crc = zlib.crc32(piece, crc)
            size += len(piece)
    return crc, size


class OpenFiles:
    """Keeps the most recently used blocks open, so that footers and checksums are read once; bounds the handles."""

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[int, OpenBlock] = OrderedDict()

    def get(self, block: Block) -> OpenBlock:
        with self._lock:
            found = self._open.get(block.row.id)
            if found is not None:
                self._open.move_to_end(block.row.id)
                return found
        found = OpenBlock(block.path, block.row, block.labels)
        with self._lock:
            self._open[block.row.id] = found
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return found

    def drop(self, block_id: int) -> None:
        """Forget a block; whoever holds its OpenBlock reads on."""
        with self._lock:
            self._open.pop(block_id, None)


class Block:
    """A published block of the current generation; opened when first read.

    Attributes:
        labels: those of the table; of those that came after it was written, its rows have null.
    """

    def __init__(
        self, row: BlockRow, folder: Path, labels: Sequence[str], cache: ColumnCache, opened: OpenFiles
    ) -> None:
        self.row = row
        self._folder = folder
        self.path = folder / row.path
        self.labels = tuple(labels)
        self._cache = cache
        self._opened = opened

    def with_labels(self, labels: tuple[str, ...]) -> Block:
        """The block as part of a table with these labels; itself where it is that already."""
        if labels == self.labels:
            return self
        return Block(self.row, self._folder, labels, self._cache, self._opened)

    def open(self) -> OpenBlock:
        """The open file; raises Corrupt where it is missing or damaged. Hold it to outlive the block's removal."""
        return self._opened.get(self)

    def reopen(self) -> OpenBlock:
        """Open the file anew, so that it is verified as it is now."""
        self._opened.drop(self.row.id)
        self._cache.drop_block(self.row.id)
        return self._opened.get(self)

    def groups(self, opened: OpenBlock | None = None) -> Iterator[RowGroup]:
        """Every row group, in order; of `opened` where the caller has pinned it."""
        opened = opened or self.open()
        for number in range(len(opened.starts) - 1):
            yield RowGroup(self.row.id, opened, number, self.labels, self._cache)


@dataclass(frozen=True)
class RowGroup:
    """One row group as SortedRows; columns are decoded when asked for and kept in the cache."""

    block_id: int
    opened: OpenBlock
    number: int
    labels: tuple[str, ...]
    cache: ColumnCache

    @property
    def start(self) -> int:
        """Position of the first row within the block."""
        return int(self.opened.starts[self.number])

    @property
    def row_count(self) -> int:
        return int(self.opened.starts[self.number + 1]) - self.start

    @property
    def index(self) -> SeriesIndex:
        # readers of a generation from before a label came want the index without it
        return self.cache.get((self.block_id, self.number, "\0index", len(self.labels)), self._load_index)

    @property
    def times(self) -> Ints:
        return self.cache.get((self.block_id, self.number, TIME), self._load_times)

    def column(self, name: str, kind: pa.DataType) -> pa.Array:
        return self.cache.get((self.block_id, self.number, name), lambda: self._load(name, kind))

    def _load(self, name: str, kind: pa.DataType) -> pa.Array:
        columns = self.opened.columns
        if name == VALUE and is_stored(columns):
            return restored(partial(self.opened.read, self.number), self.index.offsets)
        if name not in columns.names:
            return pa.nulls(self.row_count, kind)
        return _flat(self.opened.read(self.number, [name]), name)

    def _load_times(self) -> Ints:
        return micros_of(_flat(self.opened.read(self.number, [TIME]), TIME))

    def _load_index(self) -> SeriesIndex:
        there = [label for label in self.labels if label in self.opened.columns.names]
        table = self.opened.read(self.number, there)
        if self.labels == (SERIES_ID,) and table.schema.types == [pa.int64()]:
            return series_index(_flat(table, SERIES_ID))
        rows = self.row_count
        change = np.zeros(rows, np.bool_)
        change[:1] = True
        codes, values = {}, {}
        for label in there:
            codes[label], values[label] = _codes(_flat(table, label))
            change[1:] |= codes[label][1:] != codes[label][:-1]
        heads = np.flatnonzero(change)
        found = SeriesIndex(values, {label: c[heads] for label, c in codes.items()}, np.append(heads, rows))
        return found if len(there) == len(self.labels) else found.with_labels(self.labels)


def canonical(piece: pa.RecordBatch, schema: TableSchema) -> pa.RecordBatch:
    """Rows as the file has them in the columns of the table that they hold."""
    arrays = {name: piece.column(name) for name in schema.columns if name in piece.schema.names}
    if is_stored(piece.schema):
        arrays[VALUE] = restored(piece.select, series_offsets(piece.column(SERIES_ID)))
    return pa.RecordBatch.from_arrays(
        list(arrays.values()), schema=pa.schema([schema.arrow.field(name) for name in arrays])
    )


def _flat(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _codes(column: pa.Array) -> tuple[np.ndarray[Any, np.dtype[np.int32]], pa.Array]:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False), encoded.dictionary


def as_table(schema: TableSchema, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Batches in canonical columns as one table with one chunk and one dictionary per label."""
    return pa.Table.from_batches(list(batches), schema.arrow).unify_dictionaries().combine_chunks()
