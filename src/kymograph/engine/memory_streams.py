"""The oracle's streams: one array of rows each, kept in order, and levels computed from the rows whenever they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kymograph.engine.interface import Victim
from kymograph.engine.streams import READ_ROWS, Array, StreamStatistics, check_insert, overlapping
from kymograph.errors import AlreadyExists, NotFound, SchemaError
from kymograph.model.interval import Intervals
from kymograph.model.stream import (
    DATA,
    FACTOR,
    MAX,
    MEAN,
    MIN,
    TIMESTAMP,
    StreamSchema,
    cut_at,
    levels_dtype,
    rows_dtype,
)
from kymograph.model.time import DAY, MIN_TIME


@dataclass
class _Stream:
    schema: StreamSchema
    rows: Array
    # place of each row in the interval it was inserted into; see engine.streams.Streams
    places: np.ndarray[Any, np.dtype[np.int64]]
    # whether it continues the row before
    joined: np.ndarray[Any, np.dtype[np.bool_]]
    coverage: Intervals
    version: int = 0


class MemoryStreams:
    """Satisfies `engine.streams.Streams`; rows are as many bytes as they are in an array.

    Args:
        check: raises when the engine may not be read, or with True not be written.
    """

    def __init__(self, check: Callable[[bool], None]) -> None:
        self._check = check
        self._streams: dict[str, _Stream] = {}
        self._changed = threading.Condition(threading.RLock())

    def streams(self) -> Mapping[str, StreamSchema]:
        self._check(False)
        with self._changed:
            return {path: stream.schema for path, stream in self._streams.items()}

    def create(self, schema: StreamSchema) -> None:
        self._check(True)
        with self._changed:
            self._free(schema.path)
            none = np.empty(0, schema.layout.rows)
            self._streams[schema.path] = _Stream(
                schema, none, np.empty(0, np.int64), np.empty(0, np.bool_), Intervals()
            )

    def alter(self, schema: StreamSchema) -> None:
        self._check(True)
        with self._changed:
            stream = self._stream(schema.path)
            if (schema.layout, schema.pyramid) != (stream.schema.layout, stream.schema.pyramid):
                raise SchemaError(f"{schema.path}: layout and pyramid cannot change")
            stream.schema = schema

    def rename(self, path: str, to: str) -> None:
        self._check(True)
        with self._changed:
            stream = self._stream(path)
            schema = stream.schema.renamed(to)
            if to != path:
                self._free(to)
                self._streams[to] = self._streams.pop(path)
            stream.schema = schema
            self._changed.notify_all()

    def destroy(self, path: str) -> None:
        self._check(True)
        with self._changed:
            self._stream(path)
            del self._streams[path]
            self._changed.notify_all()

    def insert(self, path: str, rows: Array, start: int, end: int) -> int:
        self._check(True)
        with self._changed:
            stream = self._stream(path)
            check_insert(stream.schema, rows, start, end)
            there = stream.coverage.overlap(start, end)
            if there is not None:
                raise overlapping(path, start, end, there)
            at = int(np.searchsorted(stream.rows[TIMESTAMP], start))
            before = stream.coverage.clip(None, start).extent
            last = 0
            # the interval goes on where the one before ends at our start and holds a row
            if before is not None and before[1] == start and at > 0:
                begin = int(stream.coverage.starts[stream.coverage.locate(np.array([start - 1]))[0]])
                if stream.rows[TIMESTAMP][at - 1] >= begin:
                    last = int(stream.places[at - 1]) + 1
            places = np.arange(last, last + len(rows))
            stream.rows = np.concatenate([stream.rows[:at], rows, stream.rows[at:]])
            stream.places = np.concatenate([stream.places[:at], places, stream.places[at:]])
            joined = np.ones(len(rows), np.bool_)
            joined[:1] = last > 0
            stream.joined = np.concatenate([stream.joined[:at], joined, stream.joined[at:]])
            stream.coverage = stream.coverage.union(Intervals.of([(start, end)]))
            self._touch(stream)
            return len(rows)

    def remove(self, path: str, start: int, end: int) -> int:
        self._check(True)
        with self._changed:
            stream = self._stream(path)
            times = stream.rows[TIMESTAMP]
            kept = (times < start) | (times >= end)
            gone = len(times) - int(kept.sum())
            following = int(np.searchsorted(times, end))
            if start < end and len(stream.coverage.clip(start, end)) and following < len(times):
                stream.joined[following] = False
            stream.rows, stream.places, stream.joined = stream.rows[kept], stream.places[kept], stream.joined[kept]
            if start < end:
                stream.coverage = stream.coverage.difference(Intervals.of([(start, end)]))
            self._touch(stream)
            return gone

    def coverage(self, path: str, start: int | None = None, end: int | None = None) -> Intervals:
        self._check(False)
        with self._changed:
            return self._stream(path).coverage.clip(start, end)

    def count(self, path: str, start: int | None = None, end: int | None = None) -> int:
        self._check(False)
        with self._changed:
            return len(_between(self._stream(path).rows, start, end))

    def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[int] | None = None,
        level: int = 0,
        rows: int = READ_ROWS,
    ) -> Iterator[Array]:
        self._check(False)
        with self._changed:
            stream = self._stream(path)
            whole = stream.rows if level == 0 else decimated(stream, level)
            found = _between(whole, start, end)
            runs = stream.coverage.locate(found[TIMESTAMP])
        picked = list(range(stream.schema.layout.count)) if columns is None else list(columns)
        return _pieces(stream.schema, found, runs, picked, rows)

    def statistics(self, path: str) -> StreamStatistics:
        self._check(False)
        with self._changed:
            stream = self._stream(path)
            start, end = stream.coverage.extent or (None, None)
            return StreamStatistics(
                rows=len(stream.rows),
                intervals=len(stream.coverage),
                start=start,
                end=end,
                covered=stream.coverage.duration,
                bytes=stream.rows.nbytes,
                hot_rows=len(stream.rows),
            )

    def version(self, path: str) -> int:
        self._check(False)
        with self._changed:
            return self._stream(path).version

    def wait(self, path: str, seen: int, timeout: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self.version(path) != seen, timeout)
            return self.version(path)

    def prune(self, now: int, age: int | None, *, dry_run: bool) -> list[Victim]:
        """Apply every stream's bounds as of `now` to the microsecond; `age` bounds those that have none of their own."""
        victims = []
        with self._changed:
            for path, stream in self._streams.items():
                before = cut_at(stream.coverage, stream.schema.retention, age, now)
                if before is None:
                    continue
                gone = _between(stream.rows, None, before)
                if len(gone):
                    first = int(gone[TIMESTAMP][0])
                    victims.append(Victim(path, first // DAY * DAY, first, before, len(gone), gone.nbytes, "age"))
                if not dry_run:
                    self.remove(path, MIN_TIME, before)
        return victims

    def wake(self) -> None:
        """Let those who wait find out that the engine is closed."""
        with self._changed:
            self._changed.notify_all()

    def usage(self) -> int:
        """Bytes of all rows."""
        with self._changed:
            return sum(stream.rows.nbytes for stream in self._streams.values())

    def _touch(self, stream: _Stream) -> None:
        stream.version += 1
        self._changed.notify_all()

    def _free(self, path: str) -> None:
        if path in self._streams:
            raise AlreadyExists(f"there is a stream {path} already", hint="choose another path, or destroy it")

    def _stream(self, path: str) -> _Stream:
        if path not in self._streams:
            raise NotFound(f"there is no stream {path}")
        return self._streams[path]


def _between(rows: Array, start: int | None, end: int | None) -> Array:
    times = rows[TIMESTAMP]
    low = 0 if start is None else int(np.searchsorted(times, start))
    high = len(rows) if end is None else int(np.searchsorted(times, end))
    return rows[low:high]


def _pieces(
    schema: StreamSchema, found: Array, runs: np.ndarray[Any, np.dtype[np.int64]], columns: list[int], most: int
) -> Iterator[Array]:
    edges = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(found)]
    kind, count = schema.layout.dtype, len(columns)
    level = MEAN in (found.dtype.names or ())
    for low, high in pairwise(edges):
        for at in range(low, high, most):
            piece = found[at : min(at + most, high)]
            out = np.empty(len(piece), levels_dtype(kind, count) if level else rows_dtype(kind, count))
            out[TIMESTAMP] = piece[TIMESTAMP]
            for name in (MEAN, MIN, MAX) if level else (DATA,):
                out[name] = piece[name][:, columns]
            yield out


def decimated(stream: _Stream, level: int) -> Array:
    """One level of the pyramid by its definition, from all rows of a stream."""
    rows, places = stream.rows, stream.places
    new = ~stream.joined
    new[1:] |= places[1:] // FACTOR**level != places[:-1] // FACTOR**level
    firsts = np.flatnonzero(new).tolist()
    out = np.empty(len(firsts), stream.schema.layout.levels)
    for at, (low, high) in enumerate(pairwise([*firsts, len(rows)])):
        group = rows[low:high]
        out[at][TIMESTAMP] = sum(group[TIMESTAMP].tolist()) // len(group)
        with np.errstate(all="ignore"):
            out[MEAN][at] = _sum(group[DATA]) / len(group)
        out[MIN][at] = np.fmin.reduce(group[DATA], axis=0)
        out[MAX][at] = np.fmax.reduce(group[DATA], axis=0)
    return out


def _sum(values: Array) -> Array:
    """Exact for integers of at most 32 bits; float64 for the rest."""
    exact = values.dtype.kind in "iu" and values.dtype.itemsize <= 4
    total: Array = np.add.reduce(values, axis=0, dtype=np.int64 if exact else np.float64)
    return total
