"""Reading CSV, Parquet and Arrow IPC in chunks. CSV comes as text; the types are judged or known elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kymograph.errors import InvalidInput
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME
from kymograph.store.exchange.export import METADATA

_CSV_BLOCK = 4 * 2**20
_ROWS = 65_536


def csv_texts(file: Any) -> Iterator[pa.Table]:
    """Chunks of a CSV file with a header, all columns text; a cell without anything in it is null, `""` is empty.

    Raises:
        InvalidInput: no header, none with the column time, or a column that is there twice.
    """
    start = file.read(_CSV_BLOCK)
    header = next(csv.reader(io.StringIO(start.decode("utf-8-sig", "replace"), newline="")), [])
    if not header:
        raise InvalidInput("there is no header line")
    if len(set(header)) != len(header):
        raise InvalidInput(f"column {next(n for n in header if header.count(n) > 1)!r} is there twice")
    if TIME not in header:
        raise InvalidInput("there is no column time", hint="the first line of csv names the columns")
    with pa_csv.open_csv(
        _Again(start, file),
        # in one thread, because only then does a parse error name the row
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


class _Again:
    """A file whose beginning was read already, and that gives it out once more."""

    closed = False

    def __init__(self, start: bytes, rest: Any) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._start:
            return bytes(self._rest.read(size))
        piece = self._start if size < 0 else self._start[:size]
        self._start = self._start[len(piece) :]
        return piece

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Whoever opened the file closes it."""


def parquet_tables(file: Any) -> Iterator[pa.Table]:
    """Row groups of a Parquet file, a bounded number of rows at a time."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_ROWS):
            batch.validate(full=True)
            yield pa.Table.from_batches([batch])


def rows_within(file: Any) -> int:
    """How many rows a Parquet file says it has; leaves the file at its start."""
    rows = int(pq.read_metadata(file).num_rows)
    file.seek(0)
    return rows


def arrow_tables(file: Any) -> Iterator[pa.Table]:
    """Batches of an Arrow IPC file or stream; which of the two it is, its first bytes tell."""
    with _arrow_reader(file) as reader:
        batches = reader if isinstance(reader, pa.RecordBatchReader) else map(reader.get_batch, _count(reader))
        for batch in batches:
            # IPC takes offsets and texts as they come; using damaged ones would crash the process
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _ROWS):
                yield pa.Table.from_batches([batch.slice(start, _ROWS)])


def schema_within(file: Any, form: str) -> TableSchema | None:
    """The table schema that an export of ours left in the file's metadata; leaves the file at its start."""
    metadata = pq.read_schema(file).metadata if form == "parquet" else _arrow_reader(file).schema.metadata
    file.seek(0)
    text = (metadata or {}).get(METADATA)
    try:
        # what filled it is not here
        return None if text is None else replace(TableSchema.from_json(text.decode()), definition="")
    except (ValueError, KeyError, TypeError):
        return None


def _arrow_reader(file: Any) -> Any:
    magic = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if magic == b"ARROW1" else pa.ipc.open_stream(file)


def _count(reader: Any) -> range:
    return range(reader.num_record_batches)
