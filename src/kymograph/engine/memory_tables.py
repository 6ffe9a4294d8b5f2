"""Tables of the oracle: rows by label values and time, from batches and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kymograph.engine.interface import Victim
from kymograph.errors import SchemaError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME, TIME_TYPE

Labels = tuple[str | int | None, ...]
Key = tuple[Labels, int]
Row = tuple[Any, ...]

# Python floats would quieten a signalling float32 NaN, so floats are kept as the integers of their bits
_BITS = {pa.float32(): pa.uint32(), pa.float64(): pa.uint64()}


@dataclass
class MemoryTable:
    """A schema and its rows."""

    schema: TableSchema
    # a row is its field values; one that was written under an older schema is shorter than the fields
    rows: dict[Key, Row] = field(default_factory=dict)


def rows_of(schema: TableSchema, batch: pa.RecordBatch) -> Iterator[tuple[Key, Row]]:
    """Raises SchemaError for a batch that does not fit."""
    if not schema.accepts(batch.schema):
        raise SchemaError(f"table {schema.name}: a batch of {batch.schema} does not fit {schema.arrow}")
    times = batch.column(0).view(pa.int64()).to_pylist()
    rest = [_values(column) for column in batch.columns[1:]]
    count = schema.labels_of(batch.schema)
    more = (None,) * (len(schema.labels) - count)
    for row, time in enumerate(times):
        values = tuple(column[row] for column in rest)
        yield ((*values[:count], *more), time), values[count:]


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.view(_BITS.get(column.type, column.type)).to_pylist()
    return values


def batch_of(schema: TableSchema, pairs: Sequence[tuple[Key, Row]]) -> pa.RecordBatch:
    """The rows in the canonical columns, in the order given."""
    count = len(schema.labels)
    arrays = []
    for place, column in enumerate(schema.arrow):
        if column.name == TIME:
            arrays.append(pa.array([time for (_, time), _ in pairs], pa.int64()).view(TIME_TYPE))
        elif place <= count:
            arrays.append(pa.array([labels[place - 1] for (labels, _), _ in pairs], column.type))
        else:
            at = place - count - 1
            values = [row[at] if at < len(row) else None for _, row in pairs]
            arrays.append(pa.array(values, _BITS.get(column.type, column.type)).view(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)


def selected(table: MemoryTable, matchers: Sequence[Matcher], start: int | None, end: int | None) -> list[Key]:
    """Rows of [start, end) whose labels satisfy every matcher. Raises SchemaError for a label that is none."""
    labels = table.schema.labels
    unknown = [matcher.label for matcher in matchers if matcher.label not in labels]
    if unknown:
        raise SchemaError(f"table {table.schema.name}: {unknown[0]!r} is no label", hint="labels: " + ", ".join(labels))
    return [
        (values, time)
        for values, time in table.rows
        if (start is None or time >= start)
        and (end is None or time < end)
        and all(matcher.matches(values[labels.index(matcher.label)]) for matcher in matchers)
    ]


def order(key: Key) -> tuple[Any, ...]:
    """By labels, those that are absent first, then by time."""
    labels, time = key
    return (*((value is not None, value) if value is not None else (False,) for value in labels), time)


def size_of(key: Key, row: Row) -> int:
    """Bytes, as the engine states them."""
    texts = [value for value in (*key[0], *row) if isinstance(value, str)]
    return 8 * (1 + len(key[0]) + len(row)) + sum(len(text.encode()) for text in texts)


def taken(schema: TableSchema, rows: dict[Key, Row], keys: Sequence[Key], reason: str) -> Victim:
    """Remove the rows of one partition."""
    size = sum(size_of(key, rows[key]) for key in keys)
    times = [time for _, time in keys]
    for key in keys:
        del rows[key]
    partition = schema.partition_of(times[0])
    return Victim(schema.name, partition, min(times), max(times) + 1, len(keys), size, reason)
