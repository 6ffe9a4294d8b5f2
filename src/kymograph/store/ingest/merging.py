"""Rows with some fields of a table beside rows of the same series and time with others.

In InfluxDB such points are one: fields that come later join those that are there. A row of ours replaces the row it
meets, so before it is written it takes over what that one has and it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.model.batch import known_series
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME, micros_of

# label values that are worth naming in a scan; with more of them all are read
_NAMED = 1000


def is_partial(schema: TableSchema, rows: pa.Table) -> bool:
    """Whether the rows lack some field of the table, in whole or in places."""
    return schema.duplicates == "overwrite" and any(
        name not in rows.column_names or rows[name].null_count for name, _ in schema.fields
    )


def completed(engine: Engine, schema: TableSchema, rows: pa.Table) -> pa.Table:
    """The rows with the fields of the rows that they are about to replace, where they have none of their own."""
    newest = engine.statistics(schema.name).newest
    times = micros_of(rows[TIME].combine_chunks())
    if newest is None or int(times.min()) > newest:
        return rows
    parts = [_met(engine, schema, rows.filter(pa.array(mask))) for mask in _partitions(schema, times, newest)]
    there = pa.concat_tables([part for part in parts if part is not None] or [_keys(schema, rows).slice(0, 0)])
    if not there.num_rows:
        return rows
    mine = _keys(schema, rows).append_column("place", pa.array(np.arange(rows.num_rows)))
    # what is there has each key once; a key may come several times here
    keys = [TIME, *schema.labels]
    joined = mine.join(there, keys, join_type="inner", use_threads=False)
    if not joined.num_rows:
        return rows
    found = np.full(rows.num_rows, -1)
    found[joined["place"].to_numpy()] = np.arange(joined.num_rows)
    source = pa.array(found, mask=found < 0)
    for name, kind in schema.fields:
        old = joined[name].combine_chunks().take(source)
        if name in rows.column_names:
            at = rows.column_names.index(name)
            rows = rows.set_column(at, name, pc.coalesce(rows[name].cast(kind), old))
        elif old.null_count < len(old):
            rows = rows.append_column(name, old)
    return rows


def _partitions(schema: TableSchema, times: Any, newest: int) -> Iterator[Any]:
    """Masks of the rows that may meet others, by partition: one scan never reaches over time nobody writes to."""
    slices = times // schema.partition
    for each in np.unique(slices[times <= newest]).tolist():
        yield (slices == each) & (times <= newest)


def _met(engine: Engine, schema: TableSchema, rows: pa.Table) -> pa.Table | None:
    """Rows that are there in the time and of the labels of these, keys as plain text."""
    times = micros_of(rows[TIME].combine_chunks())
    matchers = []
    for label in schema.labels:
        values = rows[label].unique().to_pylist() if label in rows.column_names else [None]
        if len(values) <= _NAMED:
            matchers.append(Matcher(label, "in", frozenset(values)))
    found = known_series(engine.scan(schema.name, matchers, int(times.min()), int(times.max()) + 1).table(), schema)
    if not found.num_rows:
        return None
    fields = found.select([name for name, _ in schema.fields])
    plain = _keys(schema, found)
    for name in fields.column_names:
        plain = plain.append_column(name, fields[name])
    return plain


def _keys(schema: TableSchema, rows: pa.Table) -> pa.Table:
    """Time and labels, in a form that joins: text, with "" for none."""
    columns = {TIME: rows[TIME]}
    for label in schema.labels:
        values = rows[label] if label in rows.column_names else pa.nulls(rows.num_rows, pa.string())
        columns[label] = pc.fill_null(values.cast(pa.string()), "")
    return pa.table(columns)
