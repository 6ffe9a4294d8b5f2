"""The rows of a rollup for a stretch of time, reckoned from its source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.model.schema import SAMPLES, SERIES_ID, TableSchema
from kymograph.model.summary import (
    STATISTICS,
    Ints,
    Summaries,
    area,
    combined,
    floor_to,
    joined,
    nothing,
    summarised,
)
from kymograph.model.time import TIME, TIME_TYPE
from kymograph.store.rollups.definition import ROWS, Rollup, column_of
from kymograph.store.rollups.sources import Rows, Series, group_numbers, numbered, sample_rows, stored, table_rows


def compute(engine: Engine, rollup: Rollup, below: Rollup | None, start: int, end: int) -> pa.Table:
    """Rows of the buckets in [start, end), both multiples of `rollup.every`; columns of the rollup's table.

    Args:
        below: the rollup that is the source, None where the source holds samples or rows.
    """
    # a grouped row's increase begins at the last sample of the bucket before
    early = start - (rollup.every if rollup.grouped and (below is None or not below.grouped) else 0)
    if rollup.source == SAMPLES:
        return _of_samples(engine, rollup, early, start, end)
    schema = engine.tables().get(rollup.source)
    if schema is None:
        return _empty(rollup)
    if below is None:
        rows = table_rows(engine, schema, early, end, rollup.fields)
    else:
        names = [column_of(field, name) for field in rollup.fields or ("",) for name in STATISTICS]
        rows = table_rows(engine, schema, early, end, names if below.of_samples else [ROWS, *names])
    return _of_rows(engine, rollup, below, schema, rows, start)


def _of_samples(engine: Engine, rollup: Rollup, early: int, start: int, end: int) -> pa.Table:
    series, times, values = sample_rows(engine, early, end)
    made = summarised(series, floor_to(times, rollup.every), times, values)
    if not rollup.grouped:
        made = made.taken(made.bucket >= start)
        return _table(rollup, {SERIES_ID: pa.array(made.series)}, made.bucket, {"": made})
    return _grouped_samples(engine, rollup, made, start)


def _grouped_samples(engine: Engine, rollup: Rollup, made: Summaries, start: int) -> pa.Table:
    ids, places = np.unique(made.series, return_inverse=True)
    groups, known = group_numbers(engine.series(), ids, rollup.labels)
    return _grouped(rollup, made, groups[places], known, start)


def _grouped(rollup: Rollup, made: Summaries, groups: Ints, known: Series, start: int) -> pa.Table:
    made = carried(made, rollup.every)
    parts = Summaries(groups, made.bucket, made.columns).taken(made.bucket >= start).in_order()
    found = combined(parts)
    return _table(rollup, known.of(found.series), found.bucket, {"": found})


def _of_rows(
    engine: Engine, rollup: Rollup, below: Rollup | None, schema: TableSchema, rows: Rows, start: int
) -> pa.Table:
    bucket = floor_to(rows.times, rollup.every)
    if schema.by_series and rollup.grouped:  # a tier of scalar series, now by labels
        of_series = Rows(rows.table[SERIES_ID].to_numpy(), rows.times, rows.table, rows.known)
        return _grouped_samples(engine, rollup, joined(stored(of_series, "", bucket)), start)
    groups, known = rows.series, rows.known
    if set(rollup.labels) != set(schema.labels):
        numbers, known = numbered(rows.table, rollup.labels)
        groups = np.zeros(int(rows.series.max(initial=-1)) + 1, np.int64)
        groups[rows.series] = numbers
    else:
        groups = np.arange(int(rows.series.max(initial=-1)) + 1)
    parts: dict[str, Summaries] = {}
    for field in rollup.fields or ("",):
        made = _of_field(rows, field, bucket, below)
        if rollup.grouped:
            if below is None or not below.grouped:
                made = carried(made, rollup.every)
            made = combined(Summaries(groups[made.series], made.bucket, made.columns).in_order())
        parts[field] = made.taken(made.bucket >= start)
    if rollup.of_samples:
        found = parts[""]
        return _table(rollup, known.of(found.series), found.bucket, parts)
    counted = Summaries(groups[rows.series], bucket, {}).taken(bucket >= start)
    weights = rows.integers(ROWS) if below is not None else np.ones(len(bucket), np.int64)
    return _wide(rollup, known, counted, weights[bucket >= start], parts)


def _of_field(rows: Rows, field: str, bucket: Ints, below: Rollup | None) -> Summaries:
    """A field's summaries per series of the source and bucket."""
    if below is not None:
        made = stored(rows, field, bucket)
        return combined(made) if below.grouped else joined(made)
    values, there = rows.numbers(field)
    if there.all():
        return summarised(rows.series, bucket, rows.times, values)
    return summarised(rows.series[there], bucket[there], rows.times[there], values[there])


def carried(made: Summaries, every: int) -> Summaries:
    """With what came between the last sample of a series' bucket before and its own first one."""
    if not len(made):
        return made
    with np.errstate(all="ignore"):
        after = np.zeros(len(made), np.bool_)
        after[1:] = (made.series[1:] == made.series[:-1]) & (made.bucket[1:] - made.bucket[:-1] == every)
        before = np.roll(made["last"], 1)
        seconds = np.where(after, (made["first_time"] - np.roll(made["last_time"], 1)) / 1e6, 0.0)
        step = np.where(made["first"] < before, made["first"], made["first"] - before)
        columns = dict(made.columns)
        columns["increase"] = made["increase"] + np.where(after, step, 0.0)
        columns["integral_positive"] = made["integral_positive"] + area(np.maximum(before, 0.0), seconds)
        columns["integral_negative"] = made["integral_negative"] + area(np.minimum(before, 0.0), seconds)
    return Summaries(made.series, made.bucket, columns)


def _table(rollup: Rollup, labels: dict[str, pa.Array], bucket: Ints, parts: dict[str, Summaries]) -> pa.Table:
    columns: dict[str, pa.Array] = {TIME: pa.array(bucket).view(TIME_TYPE), **labels}
    columns |= {name: pa.array(values) for name, values in parts[""].columns.items()}
    return pa.table(columns)


def _wide(rollup: Rollup, known: Series, counted: Summaries, weights: Ints, parts: dict[str, Summaries]) -> pa.Table:
    """One row per group and bucket that has any row; null where a field has no value."""
    low = int(counted.bucket.min(initial=0))
    span = int(counted.bucket.max(initial=0)) - low + 1
    keys, places = np.unique(counted.series * span + (counted.bucket - low), return_inverse=True)
    columns: dict[str, pa.Array] = {TIME: pa.array(keys % span + low).view(TIME_TYPE), **known.of(keys // span)}
    rows = np.bincount(places, weights, len(keys)).astype(np.int64)
    columns[ROWS] = pa.array(rows)
    for field in rollup.fields:
        made = parts[field]
        at = np.searchsorted(keys, made.series * span + (made.bucket - low))
        missing = np.ones(len(keys), np.bool_)
        missing[at] = False
        for name, kind in STATISTICS.items():
            values = np.zeros(len(keys), kind)
            values[at] = made[name]
            columns[column_of(field, name)] = pa.array(values, mask=missing, from_pandas=False)
    return pa.table(columns)


def _empty(rollup: Rollup) -> pa.Table:
    blank: dict[str, pa.Array] = {label: pa.array([], pa.string()) for label in rollup.labels}
    if rollup.of_samples:
        return _table(rollup, blank, np.zeros(0, np.int64), {"": nothing()})
    none = nothing()
    counted = Summaries(none.series, none.bucket, {})
    return _wide(rollup, Series(blank), counted, none.series, dict.fromkeys(rollup.fields, none))
