"""Rows of a rollup's source as arrays: sorted by series and time, numbers as float64, in slices that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID, TableSchema
from kymograph.model.summary import STATISTICS, Floats, Ints, Summaries
from kymograph.model.time import TIME, micros_of

STALE = 0x7FF0000000000002  # bits of a staleness marker: the end of a series, no value of it
SLICE_ROWS = 2_000_000
_VALUE = "value"


@dataclass(frozen=True)
class Series:
    """Label sets by number.

    Attributes:
        columns: one array of values per label, a row for each number.
    """

    columns: dict[str, pa.Array]

    def of(self, numbers: Ints) -> dict[str, pa.Array]:
        return {label: values.take(pa.array(numbers)) for label, values in self.columns.items()}


@dataclass(frozen=True)
class Rows:
    """N rows of a table, sorted by series and time.

    Attributes:
        series: number of each row's label set, into `known`.
        times: µs.
        table: the rows themselves in the same order.
    """

    series: Ints
    times: Ints
    table: pa.Table
    known: Series

    def numbers(self, field: str) -> tuple[Floats, Any]:
        """A field as float64 [N], and which rows have it."""
        column = self.table[field].combine_chunks()
        there = column.is_valid().to_numpy(zero_copy_only=False)
        filled = column.cast(pa.float64(), safe=False).fill_null(0.0)
        return filled.to_numpy(zero_copy_only=False), there

    def integers(self, field: str) -> Ints:
        """An integer field, 0 where it is null."""
        found: Ints = self.table[field].combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
        return found


def slices(
    engine: Engine, tables: Sequence[str], start: int, end: int, width: int, *, before: int = 0
) -> Iterator[tuple[int, int]]:
    """[start, end) in pieces of whole buckets, each of about `SLICE_ROWS` rows at most; pieces without rows too.

    Args:
        before: how much earlier than its start each piece is read, µs.
    """
    schemas = engine.tables()
    there = [name for name in tables if name in schemas]
    numbers = [engine.statistics(name) for name in there]
    oldest = min((one.oldest for one in numbers if one.oldest is not None), default=end)
    newest = max((one.newest for one in numbers if one.newest is not None), default=end)
    low, high = max(start, oldest // width * width), min(end, (newest // width + 1) * width)
    if low >= high:
        yield start, end
        return
    if start < low:
        yield start, low
    stride = max(min(schemas[name].partition for name in there) // width * width, width)
    for at in range(low, high, stride):
        until = min(at + stride, high)
        rows = sum(engine.scan(name, (), at - before, until, [TIME]).rows for name in there)
        pieces = min(-(-rows // SLICE_ROWS), (until - at) // width) or 1
        step = -(-(until - at) // pieces // width) * width
        yield from ((piece, min(piece + step, until)) for piece in range(at, until, step))
    if high < end:
        yield high, end


def sample_rows(engine: Engine, start: int, end: int, ids: Ints | None = None) -> tuple[Ints, Ints, Floats]:
    """Series, times and values of scalar samples in [start, end), sorted; no staleness markers, no nulls.

    Args:
        ids: only these series, ascending; None is all.
    """
    series, times, values, live = scalar_rows(engine, start, end, ids)
    return (series, times, values) if live.all() else (series[live], times[live], values[live])


def scalar_rows(engine: Engine, start: int, end: int, ids: Ints | None = None) -> tuple[Ints, Ints, Floats, Any]:
    """As `sample_rows` with every row, and which of them are samples: no staleness markers, no nulls."""
    if SAMPLES not in engine.tables() or (ids is not None and not len(ids)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)
    matchers = () if ids is None else (Matcher(SERIES_ID, "in", frozenset(ids.tolist())),)
    found = engine.scan(SAMPLES, matchers, start, end, [SERIES_ID, TIME, _VALUE]).table()
    series, times = found[SERIES_ID].to_numpy(), micros_of(found[TIME].combine_chunks())
    column = found[_VALUE]
    values = (column.fill_null(0.0) if column.null_count else column).to_numpy()
    live = values.view(np.int64) != STALE
    if column.null_count:
        live &= column.combine_chunks().is_valid().to_numpy(zero_copy_only=False)
    order = _order(series, times)
    return (series, times, values, live) if order is None else (series[order], times[order], values[order], live[order])


def table_rows(engine: Engine, schema: TableSchema, start: int, end: int, fields: Sequence[str]) -> Rows:
    """Rows of a table in [start, end)."""
    found = engine.scan(schema.name, (), start, end, [*schema.labels, TIME, *fields]).table()
    series, known = numbered(found, schema.labels)
    times = micros_of(found[TIME].combine_chunks())
    order = _order(series, times)
    if order is None:
        return Rows(series, times, found, known)
    return Rows(series[order], times[order], found.take(pa.array(order)), known)


def numbered(rows: pa.Table, labels: Sequence[str]) -> tuple[Ints, Series]:
    """A number for each row's label set, and the label sets; a null label is a value like any other."""
    numbers = np.zeros(rows.num_rows, np.int64)
    for label in labels:
        codes = _codes(rows[label])
        numbers = numbers * (int(codes.max(initial=0)) + 1) + codes
        # dense again after each label, so that the product stays far below 2**63
        numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    _, first = np.unique(numbers, return_index=True)
    return numbers, Series({label: rows[label].combine_chunks().take(pa.array(first)) for label in labels})


def stored(rows: Rows, field: str, bucket: Ints) -> Summaries:
    """The summaries of a field (of scalar samples: "") that stored rows hold, with the buckets given."""
    prefix = f"{field}_" if field else ""
    counts, there = rows.numbers(f"{prefix}count")
    there &= counts > 0
    columns = {
        name: (rows.integers(prefix + name) if kind == "int64" else rows.numbers(prefix + name)[0])[there]
        for name, kind in STATISTICS.items()
    }
    return Summaries(rows.series[there], bucket[there], columns)


def _codes(column: pa.ChunkedArray) -> Ints:
    """Small integers, equal where the values are; 0 where null."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    try:
        one = column.unify_dictionaries().combine_chunks()
    except pa.ArrowInvalid:  # a dictionary that holds null itself cannot be unified
        one = column.cast(pa.string()).dictionary_encode().combine_chunks()
    distinct = one.dictionary.dictionary_encode()
    meaning = np.append(pc.fill_null(distinct.indices, -1).to_numpy(zero_copy_only=False), -1) + 1
    codes = pc.fill_null(one.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    found: Ints = meaning[codes].astype(np.int64)
    return found


def _order(series: Ints, times: Ints) -> Ints | None:
    """What sorts by series, then time; None where they are in order."""
    same = series[1:] == series[:-1]
    if bool(((series[1:] > series[:-1]) | (same & (times[1:] > times[:-1]))).all()):
        return None
    found: Ints = np.lexsort((times, series))
    return found


def group_numbers(
    known: Mapping[int, tuple[str, Mapping[str, str]]], ids: Ints, by: Sequence[str]
) -> tuple[Ints, Series]:
    """For each scalar series the number of its metric and chosen labels, and these as columns (the first is the name)."""
    keys: dict[tuple[str | None, ...], int] = {}
    numbers = np.zeros(len(ids), np.int64)
    for place, number in enumerate(ids.tolist()):
        name, labels = known[number]
        key = (name, *(labels.get(label) for label in by[1:]))
        numbers[place] = keys.setdefault(key, len(keys))
    columns = zip(*keys, strict=True) if keys else [() for _ in by]
    return numbers, Series({label: pa.array(values, pa.string()) for label, values in zip(by, columns, strict=True)})
