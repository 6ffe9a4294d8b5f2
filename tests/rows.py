"""Rows as plain tuples that compare exactly: floats as the integers of their bits, times as int µs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import TableSchema

Row = tuple[Any, ...]
_BITS = {pa.float32(): pa.uint32(), pa.float64(): pa.uint64()}


def plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values of a column, exactly."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    return list(array.view(_BITS.get(array.type, array.type)).to_pylist())


def rows_of(data: pa.Table | pa.RecordBatch) -> list[Row]:
    """Rows in their order."""
    return list(zip(*(plain(column) for column in data.columns), strict=True))


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows in one order that takes nulls, so that two lists of them can be compared."""
    return sorted(rows, key=lambda row: [(value is not None, value) for value in row])


def scanned(engine: Engine, table: str, *args: Any, **kwargs: Any) -> list[Row]:
    """Every row a scan selects, ordered, after checking what a scan promises about its parts."""
    return ordered(rows_of(checked(engine.tables()[table], engine.scan(table, *args, **kwargs))))


def checked(schema: TableSchema, scan: Scan) -> pa.Table:
    """A scan's rows, its promises checked: batches of its schema, parts sorted by labels then time, no row twice."""
    batches: list[pa.RecordBatch] = []
    for part in scan.parts:
        found = list(part())
        for batch in found:
            assert batch.schema == scan.schema
            batch.validate(full=True)
        _check_sorted(schema, pa.Table.from_batches(found, scan.schema))
        batches += found
    table = pa.Table.from_batches(batches, scan.schema)
    assert table.num_rows <= scan.rows
    key = ["time", *schema.labels]
    if set(key) <= set(table.column_names):
        keys = rows_of(table.select(key))
        assert len(set(keys)) == len(keys), "a (series, time) is there twice"
    return table


def _check_sorted(schema: TableSchema, part: pa.Table) -> None:
    if not {"time", *schema.labels} <= set(part.column_names):
        return
    keys = rows_of(part.select([*schema.labels, "time"]))
    # where null sorts is the engine's to choose; series must be together, and the rest in order
    series = [key[:-1] for key in keys]
    changes = [s for i, s in enumerate(series) if i == 0 or s != series[i - 1]]
    assert len(changes) == len(set(changes)), "a series is in two places of one part"
    complete = [key for key in keys if None not in key]
    assert complete == sorted(complete), "a part is out of order"
    assert all(a[:-1] != b[:-1] or a[-1] < b[-1] for a, b in pairwise(keys))


def batch_of(schema: TableSchema, data: Any) -> pa.RecordBatch:
    """A batch for `append` of whatever holds columns."""
    return conform(to_table(data), schema)


def columns_of(names: Sequence[str], rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Columns of rows."""
    found = list(rows)
    return {name: [row[place] for row in found] for place, name in enumerate(names)}
