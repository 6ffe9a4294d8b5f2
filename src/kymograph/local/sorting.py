"""From batches in arrival order to sorted rows without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.local.rows import Codes, Ints, MemoryRows, SeriesIndex
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME, micros_of

# above this many combinations of label codes, ranks are compressed by sorting instead of by a table
_DENSE_LIMIT = 1 << 24


def sort_batches(schema: TableSchema, batches: Sequence[pa.RecordBatch]) -> MemoryRows:
    """Sort by labels and time; of rows with the same (series, time) the last wins, the first under "ignore".

    Batches may be of older schemas of the table (fewer labels or fields).
    """
    times = micros_of(_column(schema, batches, TIME))
    codes, values = {}, {}
    for label in schema.labels:
        codes[label], values[label] = _ranked(_column(schema, batches, label))
    ordinal, distinct = _ordinals(
        [codes[label] for label in schema.labels], [len(v) + 1 for v in values.values()], len(times)
    )
    order = _order(ordinal, times, distinct)
    if order is not None:
        times, ordinal = times[order], ordinal[order]
    same_series = ordinal[1:] == ordinal[:-1]
    keep = _kept(same_series & (times[1:] == times[:-1]), first=schema.duplicates == "ignore")
    if keep is not None:
        times, ordinal = times[keep], ordinal[keep]
        order = keep if order is None else order[keep]
        same_series = ordinal[1:] == ordinal[:-1]
    heads = np.concatenate(([0], np.flatnonzero(~same_series) + 1)) if len(times) else np.empty(0, np.int64)
    at = heads if order is None else order[heads]
    index = SeriesIndex(values, {label: codes[label][at] for label in schema.labels}, np.append(heads, len(times)))
    take = None if order is None else pa.array(order)
    fields = {}
    for name, _ in schema.fields:
        column = _column(schema, batches, name)
        fields[name] = column if take is None else column.take(take)
    return MemoryRows(index, times, fields)


def _column(schema: TableSchema, batches: Sequence[pa.RecordBatch], name: str) -> pa.Array:
    kind = schema.arrow.field(name).type
    chunks = [b.column(name) if name in b.schema.names else pa.nulls(b.num_rows, kind) for b in batches]
    if len(chunks) == 1:
        return chunks[0]
    return pa.chunked_array(chunks, kind).unify_dictionaries().combine_chunks()


def _ranked(column: pa.Array) -> tuple[Codes, pa.Array]:
    """Codes into the sorted distinct values, -1 for null."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy()
    values = encoded.dictionary
    # a dictionary made elsewhere may hold a value twice, or null, or values no row uses
    used = np.zeros(len(values) + 1, np.bool_)
    used[indices] = True
    used[:-1] &= values.is_valid().to_numpy(zero_copy_only=False)
    kept = np.flatnonzero(used[:-1])
    distinct = pc.unique(values.take(pa.array(kept)))
    distinct = distinct.take(pc.sort_indices(distinct))
    place = np.full(len(values) + 1, -1, np.int32)
    place[kept] = pc.index_in(values.take(pa.array(kept)), distinct).to_numpy()
    return place[indices], distinct


def _ordinals(codes: list[Codes], sizes: list[int], rows: int) -> tuple[np.ndarray[Any, Any], int]:
    """One number per row that orders series as their label tuples do, and how many numbers there may be."""
    key: Ints = np.zeros(rows, np.int64)
    span = 1
    for code, size in zip(codes, sizes, strict=True):
        if span * size > 2**62:
            distinct, key = np.unique(key, return_inverse=True)
            span = len(distinct)
        key = key * size + (code + 1)
        span *= size
    if span <= max(_DENSE_LIMIT, 4 * rows):
        used = np.zeros(span, np.bool_)
        used[key] = True
        rank = np.cumsum(used) - 1
        count = int(rank[-1]) + 1 if span else 0
        return rank.astype(np.uint16 if count <= 2**16 else np.int64)[key], count
    distinct, key = np.unique(key, return_inverse=True)
    return key.astype(np.uint16) if len(distinct) <= 2**16 else key, len(distinct)


def _order(ordinal: np.ndarray[Any, Any], times: Ints, distinct: int) -> Ints | None:
    """Stable order by (series, time), or None where it is that already. Sorting 16-bit numbers is a radix sort."""
    by_time: Ints | None = None
    if (times[1:] < times[:-1]).any():
        if distinct <= 1 or (ordinal[1:] >= ordinal[:-1]).all():
            step = (ordinal[1:] == ordinal[:-1]) & (times[1:] < times[:-1])
            if not step.any():
                return None
        by_time = np.argsort(times, kind="stable")
        ordinal = ordinal[by_time]
    if (ordinal[1:] >= ordinal[:-1]).all():
        return by_time
    order = np.argsort(ordinal, kind="stable")
    return order if by_time is None else by_time[order]


def _kept(same: np.ndarray[Any, np.dtype[np.bool_]], *, first: bool) -> Ints | None:
    """Positions left when each run of equal keys keeps its first or its last; None where all stay."""
    if not same.any():
        return None
    stays = np.ones(len(same) + 1, np.bool_)
    stays[1:][same] = False if first else stays[1:][same]
    if not first:
        stays[:-1][same] = False
    return np.flatnonzero(stays)
