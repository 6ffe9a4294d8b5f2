"""Reading a stream: which pieces, which chunks of them, decoded ahead on every core, cut at gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from kymograph.errors import Corrupt, StorageError
from kymograph.local.streams.cores import ahead
from kymograph.local.streams.pieces import Array, Piece
from kymograph.local.streams.pyramid import Runs
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState
from kymograph.model.interval import Intervals
from kymograph.model.stream import DATA, TIMESTAMP, Layout, rows_dtype

Work = Callable[[], Array]
_ATTEMPTS = 20


def read_rows(
    room: Room, stream: StreamState, start: int | None, end: int | None, places: Sequence[int], most: int
) -> Iterator[Array]:
    """Rows of `[start, end)` as arrays of at most `most` rows of one interval each."""
    dtype = rows_dtype(stream.schema.layout.dtype, len(places))
    waiting: list[Array] = []
    count = 0
    for rows, new in _cut(stream, _decoded(room, stream, start, end, places)):
        if waiting and (new or count + len(rows) > most):
            yield _joined(waiting, dtype)
            waiting, count = [], 0
        at = 0
        while len(rows) - at >= most:
            yield rows[at : at + most]
            at += most
        if at < len(rows):
            waiting.append(rows[at:])
            count += len(rows) - at
    if waiting:
        yield _joined(waiting, dtype)


def _joined(parts: list[Array], dtype: np.dtype[Any]) -> Array:
    # what lies in memory for others is given away as a copy
    if len(parts) == 1:
        return parts[0] if parts[0].base is None or parts[0].flags.writeable else parts[0].copy()
    out = np.empty(sum(map(len, parts)), dtype)
    return np.concatenate(parts, out=out)


def _cut(stream: StreamState, parts: Iterator[Array]) -> Iterator[tuple[Array, bool]]:
    """The same rows, cut where an interval ends; with each whether it begins another interval than the one before."""
    last: tuple[int, int] | None = None
    for rows in parts:
        first, final = int(rows[TIMESTAMP][0]), int(rows[TIMESTAMP][-1])
        if last is not None and last[0] <= first and final < last[1]:
            yield rows, False
            continue
        with stream.lock:
            near = stream.coverage.near(first, final)
        # what was uncovered since has no interval any more; it is given as it was read
        inner = [at for at in near.starts.tolist() if first < at <= final]
        edges = [0, *np.searchsorted(rows[TIMESTAMP], inner).tolist(), len(rows)]
        for low, high in pairwise(edges):
            if low == high:
                continue
            at = near.locate(rows[TIMESTAMP][low : low + 1])[0]
            mine = near[int(at)] if at >= 0 else None
            yield rows[low:high], mine is None or mine != last
            last = mine


def _decoded(
    room: Room, stream: StreamState, start: int | None, end: int | None, places: Sequence[int]
) -> Iterator[Array]:
    """Rows in time order, a chunk or a hot piece at a time, not cut at gaps."""
    return (rows for rows in ahead(_works(room, stream, start, end, places)) if len(rows))


def _works(
    room: Room, stream: StreamState, start: int | None, end: int | None, places: Sequence[int]
) -> Iterator[Work]:
    """What decodes the rows, chunk by chunk, begun anew where a block was replaced since it was found."""
    layout = stream.schema.layout
    cursor = start
    attempts = 0
    while True:
        with stream.lock:
            stream.check()
            pieces = stream.pieces.between(cursor, end)
        for piece in pieces:
            if piece.hot is not None:
                yield partial(_hot, piece.hot, cursor, end, places, layout)
            else:
                try:
                    block = room.open(piece, layout)
                except StorageError:
                    attempts += 1
                    if attempts == _ATTEMPTS or not room.gone(stream, [piece]):
                        raise
                    break
                if block.checksum != piece.checksum:
                    raise Corrupt(f"stream {stream.schema.path}: block {piece.path} is not the one that was written")
                for entry in _chosen(block.level(0), cursor, end):
                    yield partial(_chunk, block, entry, cursor, end, places)
            cursor = piece.last + 1
        else:
            return


def _chosen(index: Array, start: int | None, end: int | None) -> Array:
    low = 0 if start is None else int(np.searchsorted(index["last"], start, "left"))
    high = len(index) if end is None else int(np.searchsorted(index["first"], end, "left"))
    return index[low : max(low, high)]


def span(times: Array, start: int | None, end: int | None) -> tuple[int, int]:
    """Positions of the times in `[start, end)`."""
    low = 0 if start is None else int(np.searchsorted(times, start))
    return low, len(times) if end is None else max(low, int(np.searchsorted(times, end)))


def _hot(rows: Array, start: int | None, end: int | None, places: Sequence[int], layout: Layout) -> Array:
    low, high = span(rows[TIMESTAMP], start, end)
    part = rows[low:high]
    if len(places) == layout.count and list(places) == list(range(layout.count)):
        return part.copy()
    out = np.empty(len(part), rows_dtype(layout.dtype, len(places)))
    out[TIMESTAMP] = part[TIMESTAMP]
    out[DATA] = part[DATA][:, list(places)]
    return out


def _chunk(block: Any, entry: Any, start: int | None, end: int | None, places: Sequence[int]) -> Array:
    chunk = block.chunk(entry)
    times = chunk.times()
    low, high = span(times, start, end)
    found: Array = chunk.structured(places, times, low, high)
    return found


def count_rows(room: Room, stream: StreamState, start: int | None, end: int | None) -> int:
    """Rows of `[start, end)`; at most two chunks' times are decoded for it."""
    attempts = 0
    while True:
        with stream.lock:
            stream.check()
            if start is None and end is None:
                return stream.pieces.rows
            pieces = stream.pieces.between(start, end)
        try:
            return sum(_count(room, stream.schema.layout, piece, start, end) for piece in pieces)
        except StorageError:
            attempts += 1
            if attempts == _ATTEMPTS or not room.gone(stream, pieces):
                raise


def _count(room: Room, layout: Layout, piece: Piece, start: int | None, end: int | None) -> int:
    if (start is None or start <= piece.first) and (end is None or piece.last < end):
        return piece.rows
    if piece.hot is not None:
        low, high = span(piece.hot[TIMESTAMP], start, end)
        return high - low
    block = room.open(piece, layout)
    total = 0
    for entry in _chosen(block.level(0), start, end):
        if (start is None or start <= entry["first"]) and (end is None or entry["last"] < end):
            total += int(entry["rows"])
        else:
            low, high = span(block.chunk(entry).times(), start, end)
            total += high - low
    return total


def whole(room: Room, layout: Layout, piece: Piece) -> Iterator[tuple[Array, Runs]]:
    """All rows of a piece with how they continue one another, a chunk at a time."""
    if piece.hot is not None:
        yield piece.hot, piece.runs()
        return
    block = room.open(piece, layout)
    places = range(layout.count)
    for at, entry in enumerate(block.level(0)):
        chunk = block.chunk(entry)
        runs = chunk.runs()
        if at == 0:
            # what was removed before it since is known to the catalog only
            runs.first[0] = not piece.joined
        yield chunk.structured(places, chunk.times(), 0, chunk.rows), runs


def coverage_of(stream: StreamState, start: int, end: int) -> Intervals:
    """What is covered of `[start, end)` now."""
    with stream.lock:
        return stream.coverage.intervals(start, end)
