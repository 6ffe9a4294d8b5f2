"""Background work of streams: the log's insertions become blocks, and small blocks become part of larger ones."""

from __future__ import annotations

import time

from kymograph.errors import StorageError
from kymograph.local.streams.block import block_rows
from kymograph.local.streams.changing import publish, rewritten
from kymograph.local.streams.pieces import Piece
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState

# hot rows of one stream, in bytes of memory, that are enough for a block
FOLD_BYTES = 5 * 2**20
# neighbouring blocks that together are at most so full are worth merging when there are so many
_SMALL = 4
_MANY = 8


def fold(room: Room, stream: StreamState) -> int:
    """Make blocks of all hot rows there are now; small neighbours are taken along. Returns rows folded."""
    total = 0
    for group in _groups(stream):
        written = _rewritten(room, stream, group)
        if written is not None and publish(room, stream, group, written):
            total += sum(piece.rows for piece in group if piece.hot is not None)
    with stream.lock:
        stream.hot_since = time.monotonic() if stream.pieces.hot_count else None
    return total


def _groups(stream: StreamState) -> list[list[Piece]]:
    """Neighbours of which at least one is hot, each group for one rewriting."""
    most = block_rows(stream.schema.layout)
    groups: list[list[Piece]] = []
    with stream.lock:
        if not stream.pieces.hot_count:
            return []
        hot = [piece for piece in stream.pieces.all() if piece.hot is not None]
        taken: set[int] = set()
        for piece in hot:
            if id(piece) in taken:
                continue
            group = [piece]
            following = stream.pieces.around(piece)[1]
            while following is not None and following.hot is not None:
                group.append(following)
                following = stream.pieces.around(following)[1]
            taken.update(map(id, group))
            rows = sum(one.rows for one in group)
            before = stream.pieces.around(group[0])[0]
            # a block at most twice as large is written again, so that sizes grow by doubling
            while before is not None and before.hot is None and before.rows <= 2 * rows and before.rows + rows <= most:
                group.insert(0, before)
                rows += before.rows
                before = stream.pieces.around(before)[0]
            while following is not None and following.hot is None and following.rows <= 2 * rows:
                if following.rows + rows > most:
                    break
                group.append(following)
                rows += following.rows
                following = stream.pieces.around(following)[1]
            if groups and groups[-1][-1] is group[0]:
                # both have taken the block between them
                group = group[1:]
            if group:
                groups.append(group)
    return groups


def merge(room: Room, stream: StreamState) -> int:
    """Merge one stretch of small blocks, should there be one. Returns blocks removed net."""
    most = block_rows(stream.schema.layout)
    with stream.lock:
        changes = stream.pieces.changes
        if changes == stream.merged:
            return 0
        pieces = stream.pieces.all()
    group: list[Piece] = []
    rows = 0
    for piece in (*pieces, None):
        if piece is not None and piece.hot is None and piece.rows <= most // _SMALL and rows + piece.rows <= most:
            group.append(piece)
            rows += piece.rows
            continue
        if len(group) >= _MANY:
            break
        group, rows = [], 0
        if piece is not None and piece.hot is None and piece.rows <= most // _SMALL:
            group, rows = [piece], piece.rows
    if len(group) < _MANY:
        stream.merged = changes
        return 0
    written = _rewritten(room, stream, group)
    if written is None or not publish(room, stream, group, written):
        return 0
    return len(group) - len(written)


def _rewritten(room: Room, stream: StreamState, group: list[Piece]) -> list[Piece] | None:
    """Neighbours written as full blocks; None when one of them was changed meanwhile."""
    try:
        return rewritten(room, stream, group)
    except StorageError:
        if room.gone(stream, group):
            return None
        raise
