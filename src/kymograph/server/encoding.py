"""Arrow batches as what HTTP carries: JSON values, and JSON, CSV, Arrow and Parquet as streams of bytes.

Every stream holds one batch at a time (Parquet: one row group), whatever the length of the whole.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.model.time import isoformat

_SLICE = 8192
# text that becomes Python objects takes several times its size, so little of it does at one time
_SLICE_BYTES = 4 * 2**20
_JSON_BYTES = 32 * 2**20
_ROW_GROUP = 65_536
# years that four digits can say, µs
_PLAIN_FROM, _PLAIN_TO = -62_135_596_800_000_000, 253_402_300_800_000_000

MEDIA = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


def times_as_text(column: pa.Array) -> pa.Array:
    """ISO 8601 with six digits of fraction and Z of a timestamp column; years beyond 9999 as plain µs."""
    # without its zone, since formatting a zone needs the system's time zone data
    plain = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.timestamp("us"), safe=False)
    if plain.null_count == len(plain):
        return pa.nulls(len(plain), pa.string())
    span = pc.min_max(plain.cast(pa.int64()))
    if span["min"].as_py() >= _PLAIN_FROM and span["max"].as_py() < _PLAIN_TO:
        return pc.strftime(plain, format="%Y-%m-%dT%H:%M:%SZ")
    micros = plain.cast(pa.int64()).to_pylist()
    return pa.array([None if value is None else isoformat(value) for value in micros], pa.string())


def _values(column: pa.Array) -> list[Any]:
    """Values that `json.dumps(allow_nan=False)` takes; what JSON cannot say (NaN, infinity) is null."""
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if types.is_timestamp(kind):
        return list(times_as_text(column).to_pylist())
    if types.is_floating(kind):
        return _floats(column)
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind):
        return list(column.to_pylist())
    if types.is_duration(kind) or types.is_time(kind):
        return [None if not scalar.is_valid else str(scalar) for scalar in column]
    return [plain(value) for value in column.to_pylist()]


def _floats(column: pa.Array) -> list[float | None]:
    values = column.to_numpy(zero_copy_only=False)  # nulls become NaN
    finite = np.isfinite(values)
    # of a float32 the shortest text that reads back to the same: 36.6, not 36.599998474121094
    listed = values.tolist() if values.dtype == np.float64 else [float(text) for text in values.astype("U32")]
    if finite.all():
        return list(listed)
    return [value if there else None for value, there in zip(listed, finite.tolist(), strict=True)]


def plain(value: Any) -> Any:
    """A Python value as JSON values, nested ones too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def rows(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON objects, times as ISO 8601 text. Of two columns of one name the last is seen.

    Raises:
        LimitExceeded: they are more than 32 MiB in Arrow; as Python objects that would be many times more.
    """
    if batch.nbytes > _JSON_BYTES:
        raise LimitExceeded(
            f"the answer is {batch.nbytes:,} bytes, too much for one JSON text",
            hint="ask for CSV or Arrow, which are streamed, or for less",
        )
    if isinstance(batch, pa.Table):
        return [row for part in batch.to_batches() for row in rows(part)]
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def json_text(value: Any) -> str:
    """Compact JSON without NaN."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


class _Spool:
    """A file that is only written, and emptied between writes."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        width = batch.nbytes // max(1, batch.num_rows) + 1
        step = max(1, min(_SLICE, _SLICE_BYTES // width))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def _json_chunks(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    yield b"["
    first = True
    for part in _slices(batches):
        text = ",\n".join(json_text(row) for row in rows(part))
        yield (text if first else ",\n" + text).encode()
        first = False
    yield b"]\n"


def _csv_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _csv_type(kind.value_type)
    simple = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return kind if simple and not types.is_float16(kind) else pa.string()


def _csv_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _csv_column(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return times_as_text(column)
    target = _csv_type(kind)
    if target == kind:
        return column
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    texts = [None if v is None else (v if isinstance(v, str) else json_text(v)) for v in _values(column)]
    return pa.array(texts, pa.string())


def _csv_chunks(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    target = pa.schema([pa.field(field.name, _csv_type(field.type)) for field in schema])
    spool = _Spool()
    with pacsv.CSVWriter(spool, target) as writer:
        yield spool.take()
        for part in _slices(batches):
            columns = [_csv_column(column) for column in part.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=target))
            yield spool.take()
    if rest := spool.take():
        yield rest


def _arrow_chunks(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    spool = _Spool()
    with pa.ipc.new_stream(spool, schema) as writer:
        yield spool.take()
        for batch in batches:
            writer.write_batch(batch)
            yield spool.take()
    yield spool.take()


def _parquet_chunks(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    spool = _Spool()
    with pq.ParquetWriter(spool, schema, compression="zstd") as writer:
        held: list[pa.RecordBatch] = []
        count = 0
        for part in _slices(batches):
            held.append(part)
            count += part.num_rows
            if count >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(held, schema), row_group_size=count)
                held, count = [], 0
                yield spool.take()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), row_group_size=count)
    yield spool.take()


_CHUNKS: dict[str, Callable[[pa.Schema, Iterable[pa.RecordBatch]], Iterator[bytes]]] = {
    "json": _json_chunks,
    "csv": _csv_chunks,
    "arrow": _arrow_chunks,
    "parquet": _parquet_chunks,
}


def chunks(format: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """The rows in one of the formats of `MEDIA`, piece by piece; pieces may be empty.

    JSON is one array of objects. CSV has a header, times as ISO 8601 and nested values as JSON text. Parquet row
    groups hold 65,536 rows.

    Raises:
        InvalidInput: no such format.
    """
    if format not in _CHUNKS:
        raise InvalidInput(f"{format!r} is no format", hint="one of " + ", ".join(_CHUNKS))
    return _CHUNKS[format](schema, batches)
