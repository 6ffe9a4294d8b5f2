"""Fills the gaps of an aggregated result: a grid of groups by buckets, built in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import LimitExceeded
from kymograph.model.time import TIME_TYPE
from kymograph.sql.gapfill import Fill
from kymograph.sql.width import Width

_Ints = np.ndarray[Any, np.dtype[np.int64]]
MAX_CELLS = 20_000_000


def fill(table: pa.Table, fills: Sequence[Fill], width: Width, start: int, finish: int) -> pa.Table:
    """`table` with a row for every group and every bucket that meets [start, finish).

    Rows of buckets outside that range stay. Ordered by group (as first met), then time.

    Args:
        table: one row per group and bucket; columns as `fills` says; the bucket is timestamp[us, UTC] without nulls.

    Raises:
        LimitExceeded: the grid would have more than 20 million cells.
    """
    bucket = fills.index("bucket")
    at: _Ints = _micros(table.column(bucket))
    keys = [k for k, kind in enumerate(fills) if kind == "key"]
    group, groups = _groups([table.column(k) for k in keys], table.num_rows)
    cells = width.count(start, finish) * groups
    if cells > MAX_CELLS:
        raise LimitExceeded(
            f"filling would make {cells} rows; {MAX_CELLS} are the limit", hint="take wider buckets or a shorter range"
        )
    asked = width.starts(start, finish) if finish > start else np.empty(0, np.int64)
    times = np.union1d(asked, at)
    grid = np.full((groups, len(times)), -1, np.int64)
    grid[group, np.searchsorted(times, at)] = np.arange(table.num_rows)
    # buckets outside the asked range exist for the groups that have rows there, and only for them
    kept = (grid >= 0) | np.isin(times, asked, assume_unique=True)
    first = np.zeros(groups, np.int64)
    first[group[::-1]] = np.arange(table.num_rows)[::-1]
    columns = []
    for k, kind in enumerate(fills):
        column = table.column(k).combine_chunks() if table.column(k).num_chunks != 1 else table.column(k).chunk(0)
        if kind == "bucket":
            filled = np.broadcast_to(times, grid.shape)[kept]
            columns.append(pa.array(filled).cast(pa.timestamp("us")).cast(TIME_TYPE))
        elif kind == "key":
            columns.append(column.take(pa.array(np.broadcast_to(first[:, None], grid.shape)[kept])))
        elif kind == "interpolate":
            columns.append(_interpolate(column, grid, times, kept))
        else:
            rows = (_carried(grid) if kind == "locf" else grid)[kept]
            columns.append(column.take(pa.array(rows, mask=rows < 0)))
    return pa.table(dict(enumerate_names(table.column_names, columns)))


def enumerate_names(names: Sequence[str], columns: Sequence[pa.Array]) -> list[tuple[str, pa.Array]]:
    """Name and column pairs, a repeated name numbered so that none is lost."""
    seen: dict[str, int] = {}
    pairs = []
    for name, column in zip(names, columns, strict=True):
        seen[name] = seen.get(name, 0) + 1
        pairs.append((name if seen[name] == 1 else f"{name}_{seen[name]}", column))
    return pairs


def _micros(column: pa.ChunkedArray) -> _Ints:
    micros: _Ints = column.cast(TIME_TYPE).cast(pa.int64()).to_numpy()
    return micros


def _groups(keys: list[pa.ChunkedArray], rows: int) -> tuple[_Ints, int]:
    """A group number per row in order of first appearance, and how many. Without keys there is one group, rows or not."""
    codes: _Ints = np.zeros(rows, np.int64)
    if not keys:
        return codes, 1
    for key in keys:
        plain = key.combine_chunks()
        if pa.types.is_dictionary(plain.type):
            plain = plain.dictionary_decode()
        encoded = pc.dictionary_encode(plain, null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = codes * max(1, len(encoded.dictionary)) + encoded.indices.to_numpy(zero_copy_only=False)
        codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
    distinct, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(first)] = np.arange(len(distinct))
    return rank[codes.reshape(-1)], len(distinct)


def _positions(grid: _Ints) -> _Ints:
    """Per cell, the place in its line of the last cell at or before it that has a row; -1 before the first."""
    places = np.where(grid >= 0, np.arange(grid.shape[1]), -1)
    carried: _Ints = np.maximum.accumulate(places, axis=1)
    return carried


def _carried(grid: _Ints) -> _Ints:
    before = _positions(grid)
    rows: _Ints = np.where(before >= 0, np.take_along_axis(grid, np.maximum(before, 0), axis=1), -1)
    return rows


def _interpolate(column: pa.Array, grid: _Ints, times: _Ints, kept: Any) -> pa.Array:
    values = column.cast(pa.float64())
    valid = np.asarray(values.is_valid())
    numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    before = _positions(grid)
    after = grid.shape[1] - 1 - _positions(grid[:, ::-1])[:, ::-1]
    inside = (before >= 0) & (after < grid.shape[1])
    before, after = np.where(inside, before, 0), np.where(inside, after, 0)
    left = np.take_along_axis(grid, before, axis=1)
    right = np.take_along_axis(grid, after, axis=1)
    if not len(numbers):
        return pa.nulls(int(kept.sum()), pa.float64())
    there = inside & valid[left] & valid[right]
    span = np.maximum(times[after] - times[before], 1)
    share = (times[None, :] - times[before]) / span
    drawn = np.where(left == right, numbers[left], numbers[left] * (1 - share) + numbers[right] * share)
    return pa.array(drawn[kept], mask=~there[kept])
