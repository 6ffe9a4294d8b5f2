"""The rows of a rollup for a stretch of time, reckoned from its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from kymograph.store.rollups.sources import Rows, Series, group_numbers, numbered, scalar_rows, stored, table_rows


def compute(engine: Engine, rollup: Rollup, below: Rollup | None, start: int, end: int) -> pa.Table | None:
    """Rows of the buckets in [start, end), both multiples of `rollup.every`; columns of the rollup's table.

    Args:
        below: the rollup that is the source, None where the source holds samples or rows.

    Returns:
        None where the source has, or was given meanwhile, a label that tells series apart and the rollup does not know.
    """
    # a grouped row's increase begins at the last sample of the bucket before
    early = start - (rollup.every if rollup.grouped and (below is None or not below.grouped) else 0)
    if rollup.source == SAMPLES:
        return _of_samples(engine, rollup, early, start, end)
    schema = engine.tables().get(rollup.source)
    if schema is None:
        return _empty(rollup)
    if not rollup.grouped and not set(schema.labels) <= set(rollup.labels):
        return None
    if below is None:
        rows = table_rows(engine, schema, early, end, rollup.fields)
    else:
        names = [column_of(field, name) for field in rollup.fields or ("",) for name in STATISTICS]
        rows = table_rows(engine, schema, early, end, [ROWS, *names])
    if engine.tables()[rollup.source].labels != schema.labels:
        return None
    return _of_rows(engine, rollup, below, schema, rows, start)


@dataclass(frozen=True)
class _Counted:
    """How many rows of the source there are, per series (or group) and bucket; one of these may be told in parts."""

    series: Ints
    bucket: Ints
    rows: Ints

    def taken(self, places: Any) -> _Counted:
        return _Counted(self.series[places], self.bucket[places], self.rows[places])


def _of_samples(engine: Engine, rollup: Rollup, early: int, start: int, end: int) -> pa.Table:
    series, times, values, live = scalar_rows(engine, early, end)
    bucket = floor_to(times, rollup.every)
    head = np.ones(len(series), np.bool_)
    head[1:] = (series[1:] != series[:-1]) | (bucket[1:] != bucket[:-1])
    heads = np.flatnonzero(head)
    counted = _Counted(series[heads], bucket[heads], np.diff(heads, append=len(series)))
    if not live.all():
        series, bucket, times, values = series[live], bucket[live], times[live], values[live]
    return _scalar(engine, rollup, summarised(series, bucket, times, values), counted, start)


def _scalar(engine: Engine, rollup: Rollup, made: Summaries, counted: _Counted, start: int) -> pa.Table:
    """Rows of a rollup of scalar series from the summaries of each, by its id."""
    ids, places = np.unique(counted.series, return_inverse=True)
    counted = _Counted(places, counted.bucket, counted.rows)
    made = Summaries(np.searchsorted(ids, made.series), made.bucket, made.columns)
    if not rollup.grouped:
        return _table(rollup, Series({SERIES_ID: pa.array(ids)}), counted, {"": made}, start)
    groups, known = group_numbers(engine.series(), ids, rollup.labels)
    made = carried(made, rollup.every)
    made = combined(Summaries(groups[made.series], made.bucket, made.columns).in_order())
    return _table(rollup, known, _Counted(groups[places], counted.bucket, counted.rows), {"": made}, start)


def _of_rows(
    engine: Engine, rollup: Rollup, below: Rollup | None, schema: TableSchema, rows: Rows, start: int
) -> pa.Table:
    bucket = floor_to(rows.times, rollup.every)
    weights = rows.integers(ROWS) if below is not None else np.ones(len(bucket), np.int64)
    if schema.by_series:  # a tier of scalar series
        ids = rows.table[SERIES_ID].to_numpy()
        made = joined(stored(Rows(ids, rows.times, rows.table, rows.known), "", bucket))
        return _scalar(engine, rollup, made, _Counted(ids, bucket, weights), start)
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
        parts[field] = made
    return _table(rollup, known, _Counted(groups[rows.series], bucket, weights), parts, start)


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


def _table(rollup: Rollup, known: Series, counted: _Counted, parts: Mapping[str, Summaries], start: int) -> pa.Table:
    """One row per group and bucket from `start` on that has any row; null where a field has no value."""
    counted = counted.taken(counted.bucket >= start)
    low = int(counted.bucket.min(initial=0)) // rollup.every
    span = int(counted.bucket.max(initial=0)) // rollup.every - low + 1
    keys, places = np.unique(counted.series * span + counted.bucket // rollup.every - low, return_inverse=True)
    columns: dict[str, pa.Array] = {
        TIME: pa.array((keys % span + low) * rollup.every).view(TIME_TYPE),
        **known.of(keys // span),
        ROWS: pa.array(np.bincount(places, counted.rows, len(keys)).astype(np.int64)),
    }
    for field, made in parts.items():
        made = made.taken(made.bucket >= start)
        at = np.searchsorted(keys, made.series * span + made.bucket // rollup.every - low)
        missing = np.ones(len(keys), np.bool_)
        missing[at] = False
        for name, kind in STATISTICS.items():
            values = np.zeros(len(keys), kind)
            values[at] = made[name]
            columns[column_of(field, name)] = pa.array(values, mask=missing, from_pandas=False)
    return pa.table(columns)


def _empty(rollup: Rollup) -> pa.Table:
    kind = pa.int64() if rollup.by_series else pa.string()
    blank = Series({label: pa.array([], kind) for label in rollup.labels})
    none = np.zeros(0, np.int64)
    return _table(rollup, blank, _Counted(none, none, none), dict.fromkeys(rollup.fields or ("",), nothing()), 0)
