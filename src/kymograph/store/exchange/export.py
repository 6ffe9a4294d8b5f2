"""Record batches to bytes, a piece at a time: the same pieces go to a file, a pipe and an HTTP response."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from kymograph.model.schema import TableSchema
from kymograph.store.exchange.form import Form
from kymograph.store.exchange.text import csv_header, csv_lines, json_lines

# key of the file's metadata that holds TableSchema.to_json; an import restores labels and policies from it
METADATA = b"kymograph"
# rows gathered before a Parquet row group or an Arrow batch is written
_GROUP = 65_536
_TEXT_ROWS = 8192
# text of a batch takes several times its size
_TEXT_BYTES = 4 * 2**20


def encode(
    rows: pa.RecordBatchReader,
    form: Form,
    schema: TableSchema | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The rows of a reader in the given form; see `pieces`.

    Args:
        progress: called with the number of rows done so far.
    """
    return pieces(rows.schema, _counted(rows, progress), form, schema)


def pieces(
    arrow: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    form: Form,
    schema: TableSchema | None = None,
    *,
    array: bool = False,
) -> Iterator[bytes]:
    """Batches in the given form, in pieces that together are one file; memory is that of a piece.

    Args:
        arrow: of the batches, any types; dictionary columns become plain text.
        schema: the table they are from, kept in the metadata of Parquet and Arrow.
        array: JSON is one array instead of lines, and says null where it has no word for a float.
    """
    if form == "csv":
        yield csv_header(arrow.names)
        for batch in _short(batches):
            yield csv_lines(batch)
    elif form == "json" and array:
        yield from _array(map(partial(json_lines, endless=False), _short(batches)))
    elif form == "json":
        yield from map(json_lines, _short(batches))
    else:
        yield from _binary(arrow, iter(batches), form, schema)


def _array(lines: Iterator[bytes]) -> Iterator[bytes]:
    before = b"["
    for some in lines:
        # a line feed inside a text is written as \n, so every one of these ends a row
        yield before + some[:-1].replace(b"\n", b",\n")
        before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


def write_file(pieces: Iterator[bytes], path: Path) -> int:
    """Write pieces to a file that appears under its name only when it is whole. Returns its bytes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as sink:
            size = write_stream(pieces, sink)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return size


def write_stream(pieces: Iterator[bytes], sink: BinaryIO) -> int:
    """Write pieces to an open file or pipe. Returns the bytes."""
    size = 0
    for piece in pieces:
        sink.write(piece)
        size += len(piece)
    sink.flush()
    return size


def _counted(rows: pa.RecordBatchReader, progress: Callable[[int], None] | None) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in rows:
        yield batch
        done += batch.num_rows
        if progress is not None:
            progress(done)


def _short(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Slices of which the text is not large; none is empty."""
    for batch in batches:
        width = batch.nbytes // max(1, batch.num_rows) + 1
        step = max(1, min(_TEXT_ROWS, _TEXT_BYTES // width))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


class _Drain:
    """A file to write to, whose content is taken away from time to time."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, piece: Any) -> int:
        data = bytes(piece)
        self._pieces.append(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Closed by Arrow at the end; what was written stays to be taken."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _binary(
    arrow: pa.Schema, batches: Iterator[pa.RecordBatch], form: Form, schema: TableSchema | None
) -> Iterator[bytes]:
    plain = pa.schema([pa.field(f.name, _plain_type(f.type), f.nullable) for f in arrow])
    if schema is not None:
        plain = plain.with_metadata({METADATA: schema.to_json()})
    drain = _Drain()
    sink = pa.PythonFile(drain, mode="w")
    if form == "parquet":
        writer = pq.ParquetWriter(sink, plain, compression="zstd", write_page_index=True)
    else:
        writer = (pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream)(sink, plain)
    with writer:
        for table in _groups(batches, plain):
            writer.write_table(table)
            yield drain.take()
    yield drain.take()


def _groups(batches: Iterator[pa.RecordBatch], plain: pa.Schema) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _GROUP):
            part = batch.slice(start, _GROUP)
            # a part at a time: labels take many times their size as plain text
            arrays = [column.cast(kind) for column, kind in zip(part.columns, plain.types, strict=True)]
            waiting.append(pa.RecordBatch.from_arrays(arrays, schema=plain))
            rows += part.num_rows
            if rows >= _GROUP:
                yield pa.Table.from_batches(waiting, plain)
                waiting, rows = [], 0
    if rows:
        yield pa.Table.from_batches(waiting, plain)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
