"""Reading a level of a pyramid: stored groups where a block has them, summaries where they suffice, rows where it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from kymograph.errors import StorageError
from kymograph.local.streams.block import BlockFile
from kymograph.local.streams.chunk import Chunk, columns_of
from kymograph.local.streams.pieces import Array, Piece
from kymograph.local.streams.pyramid import (
    FIRST_STORED,
    LAST_STORED,
    Groups,
    Runs,
    coarser,
    finished,
    group_rows,
    unpack,
)
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState
from kymograph.model.stream import FACTOR, TIMESTAMP, Layout

_ATTEMPTS = 20
# pieces whose groups are put together at a time
_BATCH = 256


def read_level(
    room: Room, stream: StreamState, start: int | None, end: int | None, places: Sequence[int], level: int, most: int
) -> Iterator[Array]:
    """Rows of a level whose mean time lies in `[start, end)`, as arrays of at most `most` rows of one interval each."""
    layout = stream.schema.layout
    for groups in _whole_groups(_groups(room, stream, start, end, places, level), level):
        low = 0 if start is None else int(np.searchsorted(groups.times, start))
        high = len(groups) if end is None else int(np.searchsorted(groups.times, end))
        if low >= high:
            continue
        rows = finished(groups.slice(low, high), layout)
        with stream.lock:
            near = stream.coverage.near(int(rows[TIMESTAMP][0]), int(rows[TIMESTAMP][-1]))
        runs = near.locate(rows[TIMESTAMP])
        edges = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(rows)]
        for first, last in pairwise(edges):
            for at in range(first, last, most):
                yield rows[at : min(at + most, last)]


def _whole_groups(parts: Iterator[Groups], level: int) -> Iterator[Groups]:
    """Groups put together from parts; the last of each is held back, because the next may continue it."""
    held: Groups | None = None
    for part in parts:
        groups = coarser(part if held is None else Groups.concatenate([held, part]), level)
        held = groups.slice(len(groups) - 1, len(groups))
        if len(groups) > 1:
            yield groups.slice(0, len(groups) - 1)
    if held is not None:
        yield held


def _groups(
    room: Room, stream: StreamState, start: int | None, end: int | None, places: Sequence[int], level: int
) -> Iterator[Groups]:
    """Parts of groups in time order: all that have a part in `[start, end)`, and what is needed to complete them."""
    attempts = 0
    done: Piece | None = None
    while True:
        with stream.lock:
            stream.check()
            pieces = _needed(stream, start, end, level)
        if done is not None:
            pieces = [piece for piece in pieces if piece.first > done.last]
        try:
            for at in range(0, len(pieces), _BATCH):
                batch = pieces[at : at + _BATCH]
                found = list(_of_pieces(room, stream.schema.layout, batch, start, end, places, level))
                if found:
                    yield Groups.concatenate(found)
                done = batch[-1]
            return
        except StorageError:
            attempts += 1
            if attempts == _ATTEMPTS or not room.gone(stream, pieces):
                raise


def _needed(stream: StreamState, start: int | None, end: int | None, level: int) -> list[Piece]:
    """Pieces in `[start, end)`, one more on each side, and then until the groups at the edges are complete."""
    pieces = stream.pieces
    size = FACTOR**level
    found = pieces.between(start, end)
    before: list[Piece] = []
    if start is not None:
        piece = pieces.around(found[0])[0] if found else pieces.before(start)
        while piece is not None:
            before.append(piece)
            # the group that reaches into the next piece begins in this one, or before
            if not piece.joined or piece.place % size == 0 or piece.place_end // size > piece.place // size:
                break
            piece = pieces.around(piece)[0]
    found = before[::-1] + found
    if end is not None:
        piece = pieces.around(found[-1])[1] if found else pieces.after(end)
        while piece is not None:
            found.append(piece)
            if piece.place_end // size > piece.place // size:
                break
            piece = pieces.around(piece)[1]
            if piece is not None and not piece.joined:
                break
    return found


def _of_pieces(
    room: Room,
    layout: Layout,
    pieces: list[Piece],
    start: int | None,
    end: int | None,
    places: Sequence[int],
    level: int,
) -> Iterator[Groups]:
    kept = [piece.id for piece in pieces if piece.hot is None and 0 < piece.summary_level <= level]
    summaries = room.ledger.summaries(kept) if kept else {}

    def kind(piece: Piece) -> str:
        return "hot" if piece.hot is not None else "summary" if piece.id in summaries else piece.path

    for what, several in groupby(pieces, kind):
        if what == "hot":
            yield _of_hot(list(several), places, level)
        elif what == "summary":
            mine = list(several)
            packed = [summaries[piece.id] for piece in mine]
            yield coarser(unpack(packed, [piece.joined for piece in mine], layout, places), level)
        else:
            for piece in several:
                yield from _of_block(room.open(piece, layout), piece, start, end, places, level)


def _of_hot(pieces: list[Piece], places: Sequence[int], level: int) -> Groups:
    rows = np.concatenate([piece.hot for piece in pieces if piece.hot is not None])
    runs = Runs.concatenate([(piece.runs(), piece.rows) for piece in pieces])
    columns = columns_of(rows)[list(places)]
    return group_rows(np.ascontiguousarray(rows[TIMESTAMP]), columns, runs, level)


def _of_block(
    block: BlockFile, piece: Piece, start: int | None, end: int | None, places: Sequence[int], level: int
) -> Iterator[Groups]:
    stored = min(level, LAST_STORED)
    index = block.level(stored) if stored >= FIRST_STORED else block.level(0)[:0]
    if not len(index):
        yield from _of_rows(block, piece, start, end, places, level)
        return
    for at in _near(index, start, end):
        groups = block.chunk(index[at]).groups(places)
        if at == 0:
            groups.first[0] = not piece.joined
        yield coarser(groups, level)


def _of_rows(
    block: BlockFile, piece: Piece, start: int | None, end: int | None, places: Sequence[int], level: int
) -> Iterator[Groups]:
    """Groups of the rows of a block: of the chunks in `[start, end)` and as many more as complete the outermost groups."""
    index, size = block.level(0), FACTOR**level
    inner = _near(index, start, end, more=0)
    ahead: list[tuple[Chunk, Runs]] = []
    low = inner.start
    chunk, runs = _opened(block, piece, low)
    while low > 0 and runs.places[0] % size and not runs.first[0]:
        ahead.append((chunk, runs))
        low -= 1
        chunk, runs = _opened(block, piece, low)
    at = low
    while True:
        yield group_rows(chunk.times(), chunk.columns(places), runs, level)
        whole = runs.end(chunk.rows) % size == 0
        at += 1
        if at == len(index) or (at >= inner.stop and whole):
            return
        chunk, runs = ahead.pop() if ahead else _opened(block, piece, at)
        if at >= inner.stop and runs.first[0]:
            return


def _opened(block: BlockFile, piece: Piece, at: int) -> tuple[Chunk, Runs]:
    chunk = block.chunk(block.level(0)[at])
    runs = chunk.runs()
    if at == 0:
        # what was removed before it since is known to the catalog only
        runs.first[0] = not piece.joined
    return chunk, runs


def _near(index: Any, start: int | None, end: int | None, more: int = 1) -> range:
    """Places of the chunks in `[start, end)` and of `more` on each side; at least one."""
    low = 0 if start is None else int(np.searchsorted(index["last"], start, "left")) - more
    high = len(index) if end is None else int(np.searchsorted(index["first"], end, "left")) + more
    low = max(0, min(low, len(index) - 1))
    return range(low, max(low + 1, min(high, len(index))))
