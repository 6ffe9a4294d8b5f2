"""One stream as users hold it: arrays in, arrays out, and what is known of its coverage."""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kymograph.engine.streams import READ_ROWS, Streams, StreamStatistics
from kymograph.errors import InvalidInput, NotFound
from kymograph.model.interval import Intervals
from kymograph.model.stream import (
    FACTOR,
    LEVEL_MARK,
    MAX_LEVEL,
    TIMESTAMP,
    Layout,
    StreamRetention,
    StreamSchema,
    check_path,
    cut_at,
    levels_dtype,
    rows_dtype,
)
from kymograph.model.time import to_micros
from kymograph.store.jobs import now_micros
from kymograph.store.streams import describing
from kymograph.store.streams.arrays import Array, as_rows, flattened
from kymograph.store.streams.bounding import Cleanup, needed
from kymograph.store.streams.writer import StreamWriter

if TYPE_CHECKING:
    from kymograph.store.base import StoreBase


@dataclass(frozen=True)
class Zoomed:
    """What `read(max_rows=…)` found.

    Attributes:
        rows: structured `timestamp`, `data` at level 0, else `timestamp`, `mean`, `min`, `max`; or 2-D when flattened.
        level: 0 is the rows themselves; a row of level n stands for up to 4**n rows.
    """

    rows: Array
    level: int

    @property
    def factor(self) -> int:
        """Rows that one of these stands for at most."""
        return int(FACTOR**self.level)

    def __len__(self) -> int:
        return len(self.rows)


class Stream:
    """A stream of a store, or with `level` one level of its pyramid, which is only read. Safe to use from many threads.

    Made by `Store.stream`. Times are taken as everywhere in `Store`; ranges are [start, end), None leaves a side open.
    Every method raises NotFound once the stream is renamed or destroyed by somebody else.

    Attributes:
        level: 0, or n of `path~decim-4ⁿ`.
    """

    def __init__(self, store: StoreBase, path: str, level: int = 0) -> None:
        self._store = store
        self._base = path
        self.level = level

    @property
    def path(self) -> str:
        """Where it is, with `~decim-…` when it is a level."""
        return self._base if self.level == 0 else f"{self._base}{LEVEL_MARK}{FACTOR**self.level}"

    @property
    def schema(self) -> StreamSchema:
        """Layout, policies and metadata as of now."""
        found = self._streams.streams().get(self._base)
        if found is None:
            raise NotFound(f"there is no stream {self._base}")
        return found

    @property
    def layout(self) -> Layout:
        """Type and number of the columns."""
        return self.schema.layout

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: from the metadata, or c0, c1, …"""
        return self.schema.columns

    @property
    def _streams(self) -> Streams:
        return self._store.engine.streams

    # Writing

    def insert(self, array: Any, start: Any = None, end: Any = None) -> int:
        """Store rows and cover `[start, end)` with them, all or nothing; durable when it returns. Returns the rows.

        Args:
            array: structured `[('timestamp', '<i8'), ('data', type, (count,))]`, or 2-D with int µs in column 0 (floats
                must be whole and below 2**53). No rows with both ends given: it is known that nothing was there.
            start: None is the first row's time.
            end: None is the last row's time + 1 µs.

        Raises:
            InvalidInput: rows that do not increase, lie outside, or do not fit the layout; names the first one.
            Overlap: part of it is covered already; names where.
            DiskFull, StorageError, ReadOnly: nothing is stored.
        """
        self._only_rows()
        rows = as_rows(array, self.layout)
        if not len(rows) and (start is None or end is None):
            if start is None and end is None:
                return 0
            raise InvalidInput(f"{self.path}: without rows an interval needs both its start and its end")
        low = int(rows[TIMESTAMP][0]) if start is None else to_micros(start)
        high = int(rows[TIMESTAMP][-1]) + 1 if end is None else to_micros(end)
        return self._store._written(lambda: self._streams.insert(self._base, rows, low, high))

    def writer(self, start: Any = None, *, rows: int = 1 << 20, seconds: float | None = 1.0) -> StreamWriter:
        """Continuous insertion in chunks of any length; see `StreamWriter`."""
        self._only_rows()
        return StreamWriter(self, start, rows=rows, seconds=seconds)

    def remove(self, start: Any = None, end: Any = None) -> int:
        """Uncover `[start, end)` and remove its rows for good. Returns how many."""
        self._only_rows()
        low, high = self._range(start, end)
        extent = self._streams.coverage(self._base).extent
        if extent is None:
            return 0
        low, high = extent[0] if low is None else low, extent[1] if high is None else high
        if high <= low:
            return 0
        return self._store._written(lambda: self._streams.remove(self._base, low, high))

    def rename(self, to: str) -> None:
        """Move it to another path. Raises AlreadyExists when that is taken."""
        self._only_rows()
        check_path(to)
        self._store._written(lambda: self._streams.rename(self._base, to))
        self._base = to

    def destroy(self) -> None:
        """Forget the stream and its rows."""
        self._only_rows()
        self._store._written(lambda: self._streams.destroy(self._base))

    # Reading

    @overload
    def read(
        self,
        start: Any = ...,
        end: Any = ...,
        columns: Iterable[str | int] | None = ...,
        max_rows: None = ...,
        flatten: bool = ...,
    ) -> Array: ...
    @overload
    def read(
        self, start: Any = ..., end: Any = ..., columns: Iterable[str | int] | None = ..., *, max_rows: int,
        flatten: bool = ...,
    ) -> Zoomed: ...  # fmt: skip
    def read(
        self,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str | int] | None = None,
        max_rows: int | None = None,
        flatten: bool = False,
    ) -> Array | Zoomed:
        """Rows of `[start, end)` in one array.

        Args:
            columns: names or places, in the order wanted; None is all.
            max_rows: None reads every row. A number reads the finest level of the pyramid that has at most so many rows
                there, and returns a `Zoomed` that says which one. More come only where there are more intervals.
            flatten: a 2-D float64 array with the time in column 0 (then values; of a level means, minima, maxima).

        Returns:
            Structured `timestamp` and `data` of the layout's type.

        Raises:
            InvalidInput: an unknown column; with `flatten` integers beyond 2**53.
        """
        low, high = self._range(start, end)
        places = self._places(columns)
        if max_rows is None:
            found = self._whole(low, high, places, self.level, None)
            assert found is not None
            return flattened(found) if flatten else found
        if isinstance(max_rows, bool) or not isinstance(max_rows, (int, np.integer)) or max_rows < 1:
            raise InvalidInput(f"max_rows must be a positive int, not {max_rows!r}")
        level = max(self.level, self._level_for(low, high, int(max_rows)))
        while True:
            found = self._whole(low, high, places, level, int(max_rows) if level < MAX_LEVEL else None)
            if found is not None:
                return Zoomed(flattened(found) if flatten else found, level)
            level += 1

    def chunks(
        self,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str | int] | None = None,
        *,
        rows: int = READ_ROWS,
        flatten: bool = False,
    ) -> Iterator[Array]:
        """Rows of `[start, end)` in time order as arrays of 1 to `rows` rows, none of which crosses a gap."""
        if rows < 1:
            raise InvalidInput(f"a chunk has at least one row, not {rows}")
        low, high = self._range(start, end)
        found = self._streams.read(self._base, low, high, self._places(columns), self.level, rows)
        return (flattened(chunk) for chunk in found) if flatten else found

    def tail(self, since: Any = None, *, timeout: float | None = None) -> Iterator[Array]:
        """Follow the stream: arrays of new rows as they are committed, each later than those before.

        Args:
            since: rows from this time on come first; None begins after the last row there is.
            timeout: end after so many seconds without news; None follows for ever.
        """
        streams = self._streams
        seen = streams.version(self._base)
        cursor = to_micros(since) if since is not None else self._after_last()
        while True:
            for chunk in self.chunks(cursor, None):
                cursor = int(chunk[TIMESTAMP][-1]) + 1
                yield chunk
            until = None if timeout is None else clock.monotonic() + timeout
            while True:
                left = 1.0 if until is None else min(1.0, until - clock.monotonic())
                now = self._streams.wait(self._base, seen, max(0.0, left))
                if now != seen:
                    seen = now
                    break
                if until is not None and clock.monotonic() >= until:
                    return

    def count(self, start: Any = None, end: Any = None) -> int:
        """Rows of `[start, end)`, exactly, without reading them."""
        low, high = self._range(start, end)
        if self.level:
            return sum(len(chunk) for chunk in self._streams.read(self._base, low, high, [0], self.level))
        return self._streams.count(self._base, low, high)

    def intervals(self, start: Any = None, end: Any = None, *, diff: Stream | Intervals | None = None) -> Intervals:
        """What is covered of `[start, end)`; with `diff`, only what that other stream does not cover."""
        low, high = self._range(start, end)
        mine = self._streams.coverage(self._base, low, high)
        if diff is None:
            return mine
        return mine - (diff if isinstance(diff, Intervals) else diff.intervals(low, high))

    def statistics(self) -> StreamStatistics:
        """Rows, extent, covered time and bytes."""
        return self._streams.statistics(self._base)

    # Describing

    @property
    def metadata(self) -> dict[str, Any]:
        """Free keys and values; what is known of the columns is under "columns"."""
        return dict(self.schema.metadata)

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace all metadata: text keys, JSON values."""
        self._only_rows()
        self._alter(metadata=describing.checked(self.layout, metadata))

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set some keys; None removes one."""
        merged = {**self.schema.metadata, **metadata}
        self.set_metadata({key: value for key, value in merged.items() if value is not None})

    def describe(self, column: str | int, **about: Any) -> None:
        """Say what a column is: `name`, `unit`, `offset`, `scale`, `display` as (low, high). None forgets one.

        The value meant is `(stored + offset) * scale`, in `unit`; stored values are read as they are.
        """
        place = self._places([column]) or [0]
        self.update_metadata({"columns": describing.described(self.schema, place[0], about)})

    # Bounding

    @property
    def retention(self) -> StreamRetention:
        """What bounds it beside the store-wide bounds."""
        return self.schema.retention

    def set_retention(self, retention: StreamRetention | None) -> None:
        """Replace what bounds it; None leaves the store-wide bounds. The next prune applies it."""
        self._only_rows()
        if retention is not None and not isinstance(retention, StreamRetention):
            raise InvalidInput(f"retention must be kymograph.streams.StreamRetention, not {retention!r}")
        self._alter(retention=retention or StreamRetention())

    def cleanup(self, retention: StreamRetention | None = None, *, now: Any = None, dry_run: bool = False) -> Cleanup:
        """Apply bounds now, to the microsecond.

        Args:
            retention: None takes the stream's own.
            now: what ages count from; None is the present moment.
            dry_run: only say what would go.
        """
        bounds = retention or self.retention
        statistics = self.statistics()
        moment = now_micros() if now is None else to_micros(now)
        coverage = self.intervals()
        before = cut_at(coverage, bounds, None, moment)
        rows = self.count(None, before) if before is not None else 0
        covered = coverage.clip(None, before).duration if before is not None else 0
        size = statistics.bytes * rows // statistics.rows if statistics.rows else 0
        if before is not None and not dry_run:
            self.remove(None, before)
        return Cleanup(self.path, before, rows, covered, size, needed(statistics, bounds), dry_run)

    def __repr__(self) -> str:
        return f"<kymograph stream {self.path}>"

    def _alter(self, **changes: Any) -> None:
        self._store._written(lambda: describing.alter(self._streams, self.schema, **changes))

    def _only_rows(self) -> None:
        if self.level:
            raise InvalidInput(f"{self.path} is a level of a pyramid", hint=f"change {self._base} itself")

    @staticmethod
    def _range(start: Any, end: Any) -> tuple[int | None, int | None]:
        return None if start is None else to_micros(start), None if end is None else to_micros(end)

    def _places(self, columns: Iterable[str | int] | None) -> Sequence[int] | None:
        if columns is None:
            return None
        return describing.places(self.schema, [columns] if isinstance(columns, (str, int)) else columns)

    def _after_last(self) -> int | None:
        extent = self._streams.coverage(self._base).extent
        return extent[1] if extent else None

    def _whole(
        self, low: int | None, high: int | None, places: Sequence[int] | None, level: int, most: int | None
    ) -> Array | None:
        """All rows of a level, or None as soon as there are more than `most`."""
        count = self.layout.count if places is None else len(places)
        dtype = _dtype(self.layout, count, level)
        room = self._streams.count(self._base, low, high) if level == 0 else 0
        if most is not None and room > most:
            return None
        out, total = np.empty(room, dtype), 0
        for part in self._streams.read(self._base, low, high, places, level):
            if most is not None and total + len(part) > most:
                return None
            if total + len(part) > len(out):
                # how many rows a level has is found out by reading it; others may insert meanwhile
                out = np.concatenate([out[:total], np.empty(max(len(part), 1024, total), dtype)])
            out[total : total + len(part)] = part
            total += len(part)
        return out[:total]

    def _level_for(self, low: int | None, high: int | None, most: int) -> int:
        """The first level that may fit, counting full groups only; the last one where there are more gaps than that."""
        if len(self._streams.coverage(self._base, low, high)) > most:
            return MAX_LEVEL
        left, level = self._streams.count(self._base, low, high), 0
        while left > most and level < MAX_LEVEL:
            left, level = left // FACTOR, level + 1
        return level


def _dtype(layout: Layout, count: int, level: int) -> np.dtype[Any]:
    return levels_dtype(layout.dtype, count) if level else rows_dtype(layout.dtype, count)
