"""Streams seen as tables: what SQL and PromQL need of them, over any engine's streams."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Scan
from kymograph.engine.streams import Array, Streams
from kymograph.model.schema import FIELD_TYPES, LABEL_TYPE, TableSchema
from kymograph.model.stream import DATA, MAX, MEAN, MIN, TIMESTAMP, StreamSchema
from kymograph.model.time import TIME, TIME_TYPE

# the label that tells from which stream a series is
STREAM = "stream"


def arrow_schema(schema: StreamSchema, level: int = 0) -> pa.Schema:
    """Columns of a stream: time and one per column; of a level `<column>_mean`, `<column>_min`, `<column>_max` each."""
    kind = FIELD_TYPES[schema.layout.type]
    fields = [pa.field(TIME, TIME_TYPE, nullable=False)]
    for name in schema.columns:
        if level == 0:
            fields.append(pa.field(name, kind))
        else:
            fields += [pa.field(f"{name}_{MEAN}", pa.float64()), pa.field(f"{name}_{MIN}", kind)]
            fields.append(pa.field(f"{name}_{MAX}", kind))
    return pa.schema(fields)


def scan_stream(
    streams: Streams, schema: StreamSchema, level: int, start: int | None, end: int | None, columns: Sequence[str]
) -> Scan:
    """Rows of [start, end) as one part that is read as it goes."""
    whole = arrow_schema(schema, level)
    chosen = pa.schema([whole.field(name) for name in columns])
    parts = 3 if level else 1
    wanted = [whole.get_field_index(name) - 1 for name in columns if name != TIME]
    places = sorted({at // parts for at in wanted}) or [0]

    def part() -> Iterator[pa.RecordBatch]:
        for rows in streams.read(schema.path, start, end, places, level):
            arrays = [
                _times(rows) if name == TIME else _column(rows, whole.get_field_index(name) - 1, places, level)
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=chosen)

    count = streams.count(schema.path, start, end)
    return Scan(chosen, [part] if count else [], count)


def _times(rows: Array) -> pa.Array:
    return pa.array(np.ascontiguousarray(rows[TIMESTAMP])).view(TIME_TYPE)


def _column(rows: Array, at: int, places: Sequence[int], level: int) -> pa.Array:
    if level == 0:
        return pa.array(np.ascontiguousarray(rows[DATA][:, places.index(at)]))
    kind = (MEAN, MIN, MAX)[at % 3]
    return pa.array(np.ascontiguousarray(rows[kind][:, places.index(at // 3)]))


def tables_of(schemas: Mapping[str, StreamSchema], taken: Sequence[str]) -> dict[str, StreamSchema]:
    """Streams by names that tables may have: `/meter/1/raw` is `meter_1_raw`.

    A name that is taken, by a table or by a stream whose path comes before, gets the CRC-32 of the path behind it.
    """
    named: dict[str, StreamSchema] = {}
    for path, schema in sorted(schemas.items()):
        name = re.sub(r"[^A-Za-z0-9_]+", "_", path).strip("_")[:100] or "_"
        name = name if name[0].isalpha() or name[0] == "_" else f"_{name}"
        if name in named or name in taken:
            name = f"{name}_{zlib.crc32(path.encode()):08x}"
        named[name] = schema
    return named


@lru_cache(1024)
def _table(name: str, type: str, columns: tuple[str, ...]) -> TableSchema:
    return TableSchema(name, (STREAM,), tuple((column, FIELD_TYPES[type]) for column in columns if column != STREAM))


def table_schema_of(name: str, schema: StreamSchema) -> TableSchema:
    """The table that a stream looks like: the label `stream`, which holds the path, and a field per column."""
    return _table(name, schema.layout.type, schema.columns)


def labelled(scan: Scan, path: str, columns: Sequence[str]) -> Scan:
    """The scan of a stream with the label `stream` where `columns` wants it."""
    fields = [pa.field(STREAM, LABEL_TYPE) if name == STREAM else scan.schema.field(name) for name in columns]
    schema = pa.schema(fields)

    def part() -> Iterator[pa.RecordBatch]:
        for batch in scan.batches():
            same = pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(batch), np.int32)), pa.array([path], pa.string())
            )
            arrays = [same if name == STREAM else batch.column(name) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return Scan(schema, [part] if scan.parts else [], scan.rows)
