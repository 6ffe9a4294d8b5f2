"""Changing a stream: insertions large and small, removals, and splitting what an insertion falls into the middle of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kymograph.engine.streams import overlapping
from kymograph.errors import NotFound
from kymograph.local.streams.block import Part, block_rows, build
from kymograph.local.streams.hot import encode_hot
from kymograph.local.streams.ledger import hot_piece
from kymograph.local.streams.pieces import Array, Piece
from kymograph.local.streams.pyramid import LAST_STORED, Runs
from kymograph.local.streams.reading import coverage_of, span, whole
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState
from kymograph.model.interval import Intervals
from kymograph.model.stream import FACTOR, TIMESTAMP

# rows that take more become a block at once; fewer go through the log
DIRECT_BYTES = 2 * 2**20
_ALIGNED = FACTOR**LAST_STORED


def insert(room: Room, stream: StreamState, rows: Array, start: int, end: int) -> int:
    """Store checked rows and cover `[start, end)`, durably, all or nothing. Returns the rows."""
    with stream.writing:
        _alive(stream)
        stream.check()
        with stream.lock:
            there = stream.coverage.overlap(start, end)
            if there is not None:
                raise overlapping(stream.schema.path, start, end, there)
            gone, came = stream.coverage.adding(start, end)
            place, joined, since = stream.next_place(start)
            inside = [piece for piece in stream.pieces.between(start, end) if start < end and len(rows)]
        if start == end:
            return 0
        if not len(rows):
            room.commit(lambda: room.ledger.change_coverage(stream.id, gone, came))
            stream.swap([], [], gone, came)
        elif rows.nbytes >= DIRECT_BYTES or inside:
            _insert_blocks(room, stream, rows, Runs.single(place, joined), (since, end), inside, (gone, came))
        else:
            _insert_hot(room, stream, rows, (place, joined), (since, end), (gone, came))
        return len(rows)


def _alive(stream: StreamState) -> None:
    if stream.dropped:
        raise NotFound(f"there is no stream {stream.schema.path}")


def _insert_hot(
    room: Room,
    stream: StreamState,
    rows: Array,
    continued: tuple[int, bool],
    hull: tuple[int, int],
    coverage: tuple[Intervals, Intervals],
) -> None:
    data = encode_hot(rows, stream.schema.layout, stream.orders)

    def work() -> int:
        room.ledger.change_coverage(stream.id, *coverage)
        return room.ledger.add_hot(stream.id, *hull, *continued, data)

    number = room.commit(work)
    piece = hot_piece(number, rows.copy(), *hull, *continued, len(data))
    stream.swap([], [piece], *coverage)
    if stream.hot_since is None:
        stream.hot_since = time.monotonic()


def _insert_blocks(
    room: Room,
    stream: StreamState,
    rows: Array,
    runs: Runs,
    hull: tuple[int, int],
    inside: Sequence[Piece],
    coverage: tuple[Intervals, Intervals],
) -> None:
    written: list[Piece] = []
    try:
        for piece in inside:
            # the insertion falls into a gap of this block
            written += _parts(room, stream, piece, *hull)
        written += _blocks(room, stream, rows, runs, hull)
    except BaseException:
        room.discard(written)
        raise
    enter(room, stream, inside, written, coverage)
    room.remove_files(inside)


def _blocks(room: Room, stream: StreamState, rows: Array, runs: Runs, hull: tuple[int, int]) -> Iterator[Piece]:
    """Write rows of one run as blocks that end where groups of the highest stored level do."""
    times = rows[TIMESTAMP]
    most = block_rows(stream.schema.layout)
    at, start = 0, hull[0]
    while at < len(rows):
        mine = runs.slice(at, len(rows))
        take = most - int(mine.places[0]) % _ALIGNED if most > _ALIGNED else most
        until = min(at + take, len(rows))
        end = hull[1] if until == len(rows) else int(times[until])
        part = [(rows[at:until], mine.slice(0, until - at))]
        encoded = build(stream.schema, stream.id, part, Intervals.of([(start, end)]), stream.orders)
        yield room.write(stream, encoded, start, end)
        at, start = until, end


def _parts(room: Room, stream: StreamState, piece: Piece, start: int, end: int) -> list[Piece]:
    """Write what of a block lies before and after `[start, end)` as blocks of their own."""
    written: list[Piece] = []
    for low, high, cut in ((None, start, False), (end, None, True)):
        parts = list(_within(room, stream, piece, low, high, cut=cut))
        if parts:
            hull = (max(piece.start, end), piece.end) if cut else (piece.start, min(piece.end, start))
            covered = coverage_of(stream, *hull)
            encoded = build(stream.schema, stream.id, parts, covered, stream.orders, [piece.path])
            written.append(room.write(stream, encoded, *hull))
    return written


def _within(
    room: Room, stream: StreamState, piece: Piece, low: int | None, high: int | None, *, cut: bool
) -> Iterator[tuple[Array, Runs]]:
    for rows, runs in whole(room, stream.schema.layout, piece):
        first, last = span(rows[TIMESTAMP], low, high)
        if first < last:
            mine = runs.slice(first, last)
            if cut:
                # nothing continues across what was cut out
                mine.first[0] = True
                cut = False
            yield rows[first:last], mine


def enter(
    room: Room,
    stream: StreamState,
    old: Sequence[Piece],
    written: Sequence[Piece],
    coverage: tuple[Intervals, Intervals] | None = None,
    following: Piece | None = None,
    hot: Sequence[Piece] = (),
) -> None:
    """Replace pieces by written blocks and by hot ones, in the catalog and then in the stream.

    Args:
        coverage: what goes and what comes of it.
        following: a piece into which the rows before continue no longer.
    """
    unjoined = [] if following is None else [replace(following, joined=False)]

    def work() -> list[Piece]:
        ledger = room.ledger
        ledger.remove_blocks([piece.id for piece in old if piece.hot is None])
        ledger.remove_hot([piece.id for piece in old if piece.hot is not None])
        if coverage is not None:
            ledger.change_coverage(stream.id, *coverage)
        for piece in unjoined:
            ledger.unjoin(stream.id, piece)
        came = [replace(piece, id=ledger.add_block(stream.id, piece, room.summary(piece))) for piece in written]
        for piece in hot:
            assert piece.hot is not None
            data = encode_hot(piece.hot, stream.schema.layout, stream.orders)
            number = ledger.add_hot(stream.id, piece.start, piece.end, piece.place, piece.joined, data)
            came.append(replace(piece, id=number, bytes=len(data)))
        return came

    came = room.commit(work, written)
    # counted twice for a moment, and at no moment not at all
    room.count(old)
    gone = [*old, *([] if following is None else [following])]
    stream.swap(gone, [*came, *unjoined], *(coverage or ()))
    room.uncount([piece.path for piece in written])


def remove(room: Room, stream: StreamState, start: int, end: int, *, damaged: bool = False) -> int:
    """Uncover `[start, end)` and drop its rows. Returns how many.

    Args:
        damaged: also where part of the hot log cannot be read; that part stays.
    """
    if start >= end:
        return 0
    with stream.writing:
        _alive(stream)
        if not damaged:
            stream.check()
        with stream.lock:
            pieces = stream.pieces.between(start, end)
            gone, came = stream.coverage.removing(start, end)
            following = stream.pieces.after(end)
        if not len(gone):
            return 0
        written: list[Piece] = []
        hot: list[Piece] = []
        try:
            for piece in pieces:
                if start <= piece.first and piece.last < end:
                    continue
                if piece.hot is not None:
                    hot += _hot_parts(piece, start, end)
                else:
                    written += _parts(room, stream, piece, start, end)
        except BaseException:
            room.discard(written)
            raise
        following = following if following is not None and following.joined else None
        enter(room, stream, pieces, written, (gone, came), following, hot)
        room.remove_files(pieces)
        return sum(piece.rows for piece in pieces) - sum(piece.rows for piece in (*written, *hot))


def _hot_parts(piece: Piece, start: int, end: int) -> Iterator[Piece]:
    assert piece.hot is not None
    low, high = span(piece.hot[TIMESTAMP], start, end)
    if low:
        yield hot_piece(
            0, piece.hot[:low].copy(), piece.start, min(piece.end, start), piece.place, piece.joined, piece.bytes
        )
    if high < piece.rows:
        yield hot_piece(
            0, piece.hot[high:].copy(), max(piece.start, end), piece.end, piece.place + high, False, piece.bytes
        )


def rewritten(room: Room, stream: StreamState, group: Sequence[Piece]) -> list[Piece]:
    """Write neighbours as full blocks; enters nothing."""
    layout = stream.schema.layout
    most = block_rows(layout)
    written: list[Piece] = []
    waiting: list[Part] = []
    count, start, end = 0, group[0].start, group[-1].end
    paths = [piece.path for piece in group if piece.path]

    def flush(until: int) -> None:
        nonlocal waiting, count, start
        covered = coverage_of(stream, start, until)
        encoded = build(stream.schema, stream.id, waiting, covered, stream.orders, paths)
        written.append(room.write(stream, encoded, start, until))
        waiting, count, start = [], 0, until

    def take(rows: Array, runs: Runs) -> None:
        nonlocal count
        at = 0
        while at < len(rows):
            if count >= most:
                flush(int(rows[TIMESTAMP][at]))
            some = min(most - count, len(rows) - at)
            waiting.append((rows[at : at + some], runs.slice(at, at + some)))
            at, count = at + some, count + some

    try:
        for piece in group:
            ready = None
            if piece.hot is None:
                ready = room.open(piece, layout).ready(joined=piece.joined, pyramid=stream.schema.pyramid)
            if ready is not None:
                if count + piece.rows > most and count:
                    flush(piece.start)
                waiting.append(ready)
                count += piece.rows
                continue
            for rows, runs in whole(room, layout, piece):
                take(rows, runs)
        flush(end)
    except BaseException:
        room.discard(written)
        raise
    return written


def publish(room: Room, stream: StreamState, group: Sequence[Piece], written: Sequence[Piece]) -> bool:
    """Put what was written in the place of neighbours, unless they have changed meanwhile. Returns whether it did."""
    with stream.writing:
        with stream.lock:
            now = stream.pieces.between(group[0].first, group[-1].last + 1)
            same = (
                not stream.dropped and len(now) == len(group) and all(a is b for a, b in zip(now, group, strict=True))
            )
        if not same:
            room.discard(written)
            return False
        enter(room, stream, group, written)
    room.remove_files(group)
    return True
