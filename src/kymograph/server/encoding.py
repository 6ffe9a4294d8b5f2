"""Arrow batches as what HTTP carries: JSON values, and the formats of `store.exchange` as streams of bytes."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.model.time import isoformat
from kymograph.store.exchange.export import pieces
from kymograph.store.exchange.form import form_of

_JSON_BYTES = 32 * 2**20
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


def chunks(format: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """The rows in one of the formats of `MEDIA`, piece by piece; pieces may be empty.

    JSON is one array of objects, Arrow an IPC stream. CSV has a header, times as ISO 8601 and nested values as JSON.

    Raises:
        InvalidInput: no such format.
    """
    if format not in MEDIA:
        raise InvalidInput(f"{format!r} is no format", hint="one of " + ", ".join(MEDIA))
    return pieces(schema, batches, "arrows" if format == "arrow" else form_of("", format), array=True)
