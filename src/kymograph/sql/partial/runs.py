"""Sums up runs of rows: neighbours of one series that lie in the same bucket.

What is cut into more runs than necessary is put together again by the aggregate that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import SeriesBatch
from kymograph.model.time import TIME, TIME_TYPE, micros_of
from kymograph.sql.buckets import Floor
from kymograph.sql.partial.measures import Measure, Unfit

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]
# Borders are guessed one by one while there are so many rows for each.
_ROWS_PER_BORDER = 8


def by_series(batch: pa.RecordBatch, labels: Sequence[str]) -> SeriesBatch:
    """A batch of a scan, which is sorted by labels, then time, cut where a label changes or time goes back.

    Args:
        labels: those of its columns that are labels. Without a column `time` all its times are 0.
    """
    times = micros_of(batch.column(TIME)) if TIME in batch.schema.names else np.zeros(batch.num_rows, np.int64)
    change = np.ones(batch.num_rows, np.bool_)
    change[1:] = times[1:] < times[:-1]
    for label in labels:
        codes = _codes(batch.column(label))
        change[1:] |= codes[1:] != codes[:-1]
    heads = np.flatnonzero(change)
    places = pa.array(heads)
    fields = {name: batch.column(name) for name in batch.schema.names if name != TIME and name not in labels}
    return SeriesBatch(
        {label: batch.column(label).take(places) for label in labels},
        np.append(heads[1:], batch.num_rows) - heads,
        times,
        fields,
    )


def _codes(column: pa.Array) -> _Ints:
    """Numbers that are equal where the labels are."""
    codes = column.indices if pa.types.is_dictionary(column.type) else column
    numbers: _Ints = (codes.fill_null(-1) if codes.null_count else codes).to_numpy(zero_copy_only=False)
    return numbers


def summed(batch: SeriesBatch, floor: Floor | None, measures: Mapping[str, Measure]) -> dict[str, pa.Array]:
    """One value per run, by column: the labels, `time` where there is a floor (the start of the bucket), the measures.

    Args:
        floor: None: which bucket a time lies in does not matter.

    Raises:
        Unfit: NaN among values whose least or most is wanted: the answer depends on the order of rows.
    """
    at = np.cumsum(batch.counts) - batch.counts
    arrays = {name: _plain(labels) for name, labels in batch.labels.items()}
    if floor is not None:
        heads, at = at, _borders(batch.times, at, batch.counts, floor)
        arrays[TIME] = pa.array(floor(batch.times[at]), pa.int64()).view(TIME_TYPE)
        if len(at) > len(heads) and arrays:
            series = pa.array(np.repeat(np.arange(len(heads)), np.diff(np.searchsorted(at, heads), append=len(at))))
            arrays |= {name: arrays[name].take(series) for name in batch.labels}
    counts = np.append(at[1:], len(batch.times)) - at
    columns: dict[str, _Column] = {}
    with np.errstate(all="ignore"):
        for name, measure in measures.items():
            if measure.kind == "rows":
                arrays[name] = pa.array(counts)
                continue
            if measure.kind in ("begun", "ended"):
                arrays[name] = pa.array(batch.times[at if measure.kind == "begun" else at + counts - 1])
                continue
            if measure.column not in columns:
                values = pa.array(batch.times) if measure.column == TIME else batch.fields[measure.column]
                columns[measure.column] = _Column(values, at, counts)
            arrays[name] = columns[measure.column].measured(measure)
    return arrays


def _plain(labels: pa.Array) -> pa.Array:
    """Text as it is, not by dictionary: DataFusion groups by it in half the time."""
    return labels.dictionary_decode() if pa.types.is_dictionary(labels.type) else labels


def _borders(times: _Ints, heads: _Ints, counts: _Ints, floor: Floor) -> _Ints:
    """Where runs begin: at the `heads` of the series, and where another bucket does."""
    guessed = _guessed(times, heads, counts, floor) if floor.width else None
    if guessed is not None:
        return guessed
    starts = floor(times)
    change = np.ones(len(times), np.bool_)
    np.not_equal(starts[1:], starts[:-1], out=change[1:])
    change[heads] = True
    return np.flatnonzero(change)


def _guessed(times: _Ints, heads: _Ints, counts: _Ints, floor: Floor) -> _Ints | None:
    """The same, without a look at most rows: where series are regular, a border is found by proportion.

    None where a guess is off by more than a row, or there are too many to make.
    """
    ends = heads + counts - 1
    since, until = times[heads], times[ends]
    first = floor(since)
    borders = (floor(until) - first) // floor.width
    total = int(borders.sum())
    if total * _ROWS_PER_BORDER > len(times):
        return None
    owner = np.repeat(np.arange(len(heads)), borders)
    nth = np.arange(1, total + 1) - np.repeat(np.cumsum(borders) - borders, borders)
    bound = first[owner] + nth * floor.width
    per_micro = (counts - 1) / np.maximum(until - since, 1)
    guess = heads[owner] + np.ceil((bound - since[owner]) * per_micro[owner]).astype(np.int64)
    guess = np.clip(guess, heads[owner] + 1, ends[owner])
    guess = np.minimum(guess + (times[guess] < bound), ends[owner])
    guess -= (times[guess - 1] >= bound) & (guess - 1 > heads[owner])
    if not bool(((times[guess] >= bound) & (times[guess - 1] < bound)).all()):
        return None
    found = np.sort(np.concatenate((heads, guess)))
    # a bucket without rows ends where it begins
    distinct: _Ints = found[np.append(True, found[1:] != found[:-1])]
    return distinct


class _Column:
    """One column of a batch, cut into runs that begin at `at`."""

    def __init__(self, column: pa.Array, at: _Ints, counts: _Ints) -> None:
        self._column = column
        self._at = at
        self._there: _Bools | None = np.asarray(column.is_valid()) if column.null_count else None
        self._valid = counts if self._there is None else np.add.reduceat(self._there, at, dtype=np.int64)

    def measured(self, measure: Measure) -> pa.Array:
        if measure.kind == "valid":
            return pa.array(self._valid)
        if measure.kind in ("least", "most"):
            return self._extreme(measure)
        if measure.kind in ("first", "last"):
            return self._column.take(pa.array(self._at if measure.kind == "first" else self._ends))
        values = self._values(0)
        if measure.kind == "square":
            return self._array(self._square(values.astype(np.float64)), measure.type)
        wide = np.dtype(measure.type.to_pandas_dtype())
        if measure.kind in ("floats", "apart") and values.dtype.kind in "iu" and values.dtype.itemsize < 8:
            # exact, and faster than in doubles
            wide = np.dtype(np.int64)
        sums = np.add.reduceat(values, self._at, dtype=wide)
        return self._array(sums, measure.type)

    @property
    def _ends(self) -> _Ints:
        """The last row of each run."""
        return np.append(self._at[1:], len(self._column)) - 1

    def _square(self, values: Any) -> Any:
        """Squared deviations from the mean of the run, in two passes."""
        counts = np.append(self._at[1:], len(values)) - self._at
        apart = values - np.repeat(np.add.reduceat(values, self._at) / np.maximum(self._valid, 1), counts)
        if self._there is not None:
            apart = np.where(self._there, apart, 0.0)
        return np.add.reduceat(apart * apart, self._at)

    def _extreme(self, measure: Measure) -> pa.Array:
        least = measure.kind == "least"
        values = self._values(None if self._there is None else "most" if least else "least")
        found = (np.minimum if least else np.maximum).reduceat(values, self._at)
        if found.dtype.kind == "f" and np.isnan(found).any():
            raise Unfit
        if measure.type == TIME_TYPE:
            return pa.array(found).view(TIME_TYPE)
        return self._array(found, measure.type)

    def _values(self, filling: Any) -> Any:
        """The values; in place of null 0, or the "least" or the "most" that the type has."""
        column = self._column
        if self._there is None:
            return column.to_numpy(zero_copy_only=False)
        kind = np.dtype(column.type.to_pandas_dtype())
        if filling != 0:
            low, high = (-np.inf, np.inf) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
            filling = low if filling == "least" else high
        return column.fill_null(pa.scalar(filling, column.type)).to_numpy(zero_copy_only=False)

    def _array(self, numbers: Any, kind: pa.DataType) -> pa.Array:
        empty = None if self._there is None else self._valid == 0
        numbers = numbers.astype(kind.to_pandas_dtype(), copy=False)
        return pa.array(numbers, kind, mask=empty if empty is not None and empty.any() else None)
