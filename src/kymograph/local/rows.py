"""Sorted rows: series one after the other, each in time order, found by label and bisected by time.

Both halves of the engine speak it: a run of the head and a row group of a block are `SortedRows`, selected by the same
code. Rows are sorted by label values (bytes of UTF-8, null first), then time; no (series, time) is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME, TIME_TYPE

Ints = np.ndarray[Any, np.dtype[np.int64]]
Codes = np.ndarray[Any, np.dtype[np.int32]]
# Series up to which bisecting them one by one is quicker than all at once.
_FEW = 8
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[Any]]
_LONG = 64  # rows per series


@dataclass(frozen=True)
class SeriesIndex:
    """Which series the rows hold and where each begins.

    Attributes:
        values: per label the distinct values as a plain array; sorted, without null.
        codes: per label, int32 of shape (series,): position in `values`, -1 for null.
        offsets: int64 of shape (series + 1,): rows of series i are [offsets[i], offsets[i + 1]).
    """

    values: dict[str, pa.Array]
    codes: dict[str, Codes]
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> int:
        return int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        parts = [self.offsets, *self.codes.values(), *self.values.values()]
        return sum(int(part.nbytes) for part in parts)

    def matching(self, matchers: Sequence[Matcher]) -> Ints:
        """Ordinals of the series that satisfy every matcher."""
        keep: Bools | None = None
        for matcher in matchers:
            codes, values = self.codes[matcher.label], self.values[matcher.label]
            if pa.types.is_integer(values.type) and matcher.operator in ("=", "in") and not matcher.matches(None):
                mask = _among(values.to_numpy(), matcher.numbers)[codes]
            elif matcher.operator == "=" and matcher.value != "":
                mask = codes == _position(values, matcher.value)
            else:
                # the last place stands for null, which code -1 finds
                mask = np.append(matcher.mask(values), matcher.matches(None))[codes]
            keep = mask if keep is None else keep & mask
        return np.arange(len(self)) if keep is None else np.flatnonzero(keep)

    @cached_property
    def keys(self) -> dict[tuple[Any, ...], int]:
        """Ordinal by tuple of label values."""
        return {key: ordinal for ordinal, key in enumerate(self.label_tuples())}

    def label_tuples(self) -> list[tuple[Any, ...]]:
        """Label values of every series, in order."""
        columns = []
        for label, codes in self.codes.items():
            values = np.array([*self.values[label].to_pylist(), None], dtype=object)
            columns.append(values[codes].tolist())
        return list(zip(*columns, strict=True)) if columns else [()] * len(self)

    def with_labels(self, labels: Sequence[str]) -> SeriesIndex:
        """The same series with these labels, null in those that they lack. The order stays: null is the least."""
        none = pa.array([], pa.string())
        values = {label: self.values.get(label, none) for label in labels}
        codes = {label: self.codes.get(label, np.full(len(self), -1, np.int32)) for label in labels}
        return SeriesIndex(values, codes, self.offsets)

    def label_array(self, label: str, series: Ints, counts: Ints, kind: pa.DataType) -> pa.Array:
        """The label column of `counts[i]` rows of each of `series`, as `kind` (dictionary, or plain int64)."""
        codes = np.repeat(self.codes[label][series], counts)
        values = self.values[label]
        if pa.types.is_dictionary(kind):
            mask = codes < 0
            indices = pa.array(codes, pa.int32(), mask=mask if mask.any() else None)
            return pa.DictionaryArray.from_arrays(indices, values)
        return values.take(pa.array(codes))


def _among(values: Ints, wanted: Ints) -> Bools:
    """Which of some distinct ascending numbers are wanted; one more place, False, for null."""
    found = np.zeros(len(values) + 1, np.bool_)
    places = np.searchsorted(values, wanted)
    places = places[places < len(values)]
    found[places[values[places] == wanted[: len(places)]]] = True
    return found


def _position(values: pa.Array, value: Any) -> int:
    """Where an equal value is, or -2, which no code has."""
    if not isinstance(value, int if pa.types.is_integer(values.type) else str):
        return -2
    try:
        found = int(pc.index(values, pa.scalar(value, values.type)).as_py())
    except (pa.ArrowInvalid, OverflowError):
        return -2
    return found if found >= 0 else -2


class SortedRows(Protocol):
    """Sorted rows somewhere: in memory, or in a block whose columns are decoded when asked for."""

    @property
    def index(self) -> SeriesIndex: ...

    @property
    def times(self) -> Ints: ...

    def column(self, name: str, kind: pa.DataType) -> pa.Array:
        """One field's values; all null where these rows were written before the field existed."""


@dataclass(frozen=True)
class MemoryRows:
    """Sorted rows in memory."""

    index: SeriesIndex
    times: Ints
    fields: dict[str, pa.Array]

    def column(self, name: str, kind: pa.DataType) -> pa.Array:
        array = self.fields.get(name)
        return pa.nulls(len(self.times), kind) if array is None else array

    @property
    def nbytes(self) -> int:
        return int(self.times.nbytes) + self.index.nbytes + sum(int(a.nbytes) for a in self.fields.values())


@dataclass(frozen=True)
class Selection:
    """Some rows of sorted rows, still in order.

    Attributes:
        series: ordinals of the series that have at least one row selected.
        counts: rows selected of each.
        given: a slice where the rows are contiguous, else their int64 positions; None where `starts` says it all.
        starts: the first row of each series, where the others of it follow.
    """

    series: Ints
    counts: Ints
    given: slice | Ints | None
    starts: Ints | None = None

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def place(self) -> slice | Ints:
        """A slice where the rows are contiguous, else their int64 positions."""
        if self.given is not None:
            return self.given
        assert self.starts is not None
        ends = np.cumsum(self.counts)
        return np.repeat(self.starts - (ends - self.counts), self.counts) + np.arange(ends[-1])

    def positions(self) -> Ints:
        return np.arange(self.place.start, self.place.stop) if isinstance(self.place, slice) else self.place

    @property
    def _long(self) -> bool:
        """Whether rows are quicker copied series by series than picked one by one."""
        return self.starts is not None and self.rows >= _LONG * len(self.series)

    def of(self, values: Numbers) -> Numbers:
        """The selected of some values, one per row; without copying where they are contiguous."""
        if not self._long:
            return values[self.place]
        assert self.starts is not None
        ends = (self.starts + self.counts).tolist()
        return np.concatenate([values[low:high] for low, high in zip(self.starts.tolist(), ends, strict=True)])

    def of_column(self, column: pa.Array) -> pa.Array:
        """As `of`, of an Arrow array."""
        if self._long and not column.null_count and _is_plain(column.type):
            return pa.array(self.of(column.to_numpy()), column.type, from_pandas=False)
        place = self.place
        return column.slice(place.start, place.stop - place.start) if isinstance(place, slice) else column.take(place)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether arrays of a type are those of NumPy."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def select(
    rows: SortedRows,
    matchers: Sequence[Matcher] = (),
    start: int | None = None,
    end: int | None = None,
    excluded: Ints | None = None,
) -> Selection | None:
    """Rows of [start, end) whose series match, without the positions in `excluded`; None where there is none."""
    index = rows.index
    series = index.matching(matchers)
    low, high = index.offsets[:-1][series], index.offsets[1:][series]
    if start is not None:
        low = bisect(rows.times, low, high, start)
    if end is not None:
        high = bisect(rows.times, low, high, end)
    counts = high - low
    if not counts.all():
        some = counts > 0
        series, low, high, counts = series[some], low[some], high[some], counts[some]
    if not len(series):
        return None
    if np.array_equal(high[:-1], low[1:]):
        found = Selection(series, counts, slice(int(low[0]), int(high[-1])))
    else:
        found = Selection(series, counts, None, low)
    return found if excluded is None or not len(excluded) else _without(found, excluded, index.rows)


def _without(selection: Selection, excluded: Ints, total: int) -> Selection | None:
    gone = np.zeros(total, np.bool_)
    gone[excluded] = True
    positions = selection.positions()
    keep = ~gone[positions]
    owner = np.repeat(np.arange(len(selection.series)), selection.counts)[keep]
    counts = np.bincount(owner, minlength=len(selection.series))
    some = counts > 0
    if not some.any():
        return None
    return Selection(selection.series[some], counts[some], positions[keep])


def bisect(times: Ints, low: Ints, high: Ints, bound: int | Ints) -> Ints:
    """Per element the first position in [low, high) whose time is not below `bound`; all elements at once."""
    if len(low) <= _FEW and isinstance(bound, int):
        found = [a + times[a:b].searchsorted(bound) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        return np.array(found, np.int64)
    low, high = _guessed(times, low, high, bound)
    while True:
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) >> 1
        below = open_ & (times[np.where(open_, middle, 0)] < bound)
        low = np.where(below, middle + 1, low)
        high = np.where(open_ & ~below, middle, high)


def _guessed(times: Ints, low: Ints, high: Ints, bound: int | Ints) -> tuple[Ints, Ints]:
    """Bounds as near as a guess by proportion brings them: to nothing where times are regular, as they mostly are."""
    if not len(times):
        return low, high
    count = high - low
    first, last = np.minimum(low, len(times) - 1), np.clip(high - 1, 0, len(times) - 1)
    since = times[first]
    share = (np.asarray(bound, np.float64) - since) / np.maximum(times[last] - since, 1)
    guess = low + np.clip(np.ceil(share * (count - 1)), 0, count).astype(np.int64)
    # to the microsecond, a share may be off by one row
    guess -= (guess > low) & (times[guess - 1] >= bound)
    below = (guess < high) & (times[np.minimum(guess, last)] < bound)
    guess += below
    reached = (guess > low) & (times[guess - 1] < bound)
    enough = (guess < high) & (times[np.minimum(guess, last)] >= bound)
    return np.where(reached, guess, low), np.where(enough, guess, high)


def gather(rows: SortedRows, selection: Selection, schema: TableSchema, columns: Sequence[str]) -> pa.RecordBatch:
    """The selected rows as a record batch of `columns`; shares memory where they are contiguous."""
    arrow, index = schema.arrow, rows.index
    arrays, fields = [], []
    for name in columns:
        field = arrow.field(name)
        if name == TIME:
            array = pa.array(selection.of(rows.times), pa.int64()).view(TIME_TYPE)
        elif name in index.codes:
            array = index.label_array(name, selection.series, selection.counts, field.type)
        else:
            array = selection.of_column(rows.column(name, field.type))
        arrays.append(array)
        fields.append(field)
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * selection.rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def common_positions(rows: SortedRows, other: SortedRows, of_other: Selection) -> tuple[Ints, Ints]:
    """Where both hold the same (series, time): positions in `rows`, and in `other` among `of_other`."""
    known = rows.index.keys
    names = other.index.label_tuples()
    ordinals = np.array([known.get(names[s], -1) for s in of_other.series.tolist()], np.int64)
    ordinal = np.repeat(ordinals, of_other.counts)
    positions = of_other.positions()
    there = ordinal >= 0
    ordinal, positions = ordinal[there], positions[there]
    wanted = other.times[positions]
    low, high = rows.index.offsets[:-1][ordinal], rows.index.offsets[1:][ordinal]
    found = bisect(rows.times, low, high, wanted)
    same = found < high
    same[same] = rows.times[found[same]] == wanted[same]
    return found[same], positions[same]
