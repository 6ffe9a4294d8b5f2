"""What a stream is made of in time: pieces, either a block or one hot insertion, that never share time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.local.streams.pyramid import Runs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one insertion that are hot, or of one block. A change makes another piece.

    Attributes:
        id: in the catalog's table of hot insertions or of blocks.
        first, last: times of its first and last row, µs.
        start, end: covered time that it stands for.
        rows: how many, at least one.
        place: of the first row in its interval; `place_end` follows that of the last one.
        joined: whether the rows of the piece before continue into it.
        bytes, pyramid_bytes: on disk, the latter part of the former.
        path: of a block, relative to DIR/streams; "" for a hot piece.
        checksum: of a block's footer.
        summary_level: level of the groups that the catalog keeps of a block; 0: none.
        hot: the rows of a hot piece.
    """

    id: int
    first: int
    last: int
    start: int
    end: int
    rows: int
    place: int
    place_end: int
    joined: bool
    bytes: int
    pyramid_bytes: int = 0
    path: str = ""
    checksum: int = 0
    summary_level: int = 0
    hot: Array | None = None

    def runs(self) -> Runs:
        """How the rows of a hot piece continue one another: they are one run."""
        return Runs.single(self.place, self.joined)


class Pieces:
    """The pieces of a stream in time order. Guarded by the stream's lock.

    Attributes:
        rows, bytes, pyramid_bytes, hot_rows, hot_bytes, hot_count, blocks, block_bytes: totals; `hot_bytes` are of the rows in memory.
        changes: how often a piece came or went.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._firsts: list[int] = []
        self.rows = self.bytes = self.pyramid_bytes = 0
        self.changes = 0
        self.hot_rows = self.hot_bytes = self.hot_count = self.blocks = self.block_bytes = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def all(self) -> list[Piece]:
        """A copy of the list."""
        return list(self._pieces)

    def between(self, start: int | None, end: int | None) -> list[Piece]:
        """Pieces with rows that may lie in `[start, end)`."""
        low, high = self._span(start, end)
        return self._pieces[low:high]

    def around(self, piece: Piece) -> tuple[Piece | None, Piece | None]:
        """The pieces before and after one."""
        at = bisect_left(self._firsts, piece.first)
        before = self._pieces[at - 1] if at > 0 else None
        return before, self._pieces[at + 1] if at + 1 < len(self._pieces) else None

    def before(self, time: int) -> Piece | None:
        """The last piece that begins before a time."""
        at = bisect_left(self._firsts, time)
        return self._pieces[at - 1] if at else None

    def after(self, time: int) -> Piece | None:
        """The first piece that begins at a time or later."""
        at = bisect_left(self._firsts, time)
        return self._pieces[at] if at < len(self._pieces) else None

    def has(self, piece: Piece) -> bool:
        """Whether this very piece is still there."""
        at = bisect_left(self._firsts, piece.first)
        return at < len(self._pieces) and self._pieces[at] is piece

    def add(self, piece: Piece) -> None:
        """Put one in; mostly at the end."""
        if not self._firsts or piece.first > self._firsts[-1]:
            self._pieces.append(piece)
            self._firsts.append(piece.first)
        else:
            at = bisect_left(self._firsts, piece.first)
            self._pieces.insert(at, piece)
            self._firsts.insert(at, piece.first)
        self._count(piece, 1)

    def replace(self, old: Sequence[Piece], new: Sequence[Piece]) -> None:
        """Take out neighbours and put others in their place."""
        for piece in old:
            at = bisect_left(self._firsts, piece.first)
            assert self._pieces[at] is piece
            del self._pieces[at], self._firsts[at]
            self._count(piece, -1)
        for piece in new:
            self.add(piece)

    def _span(self, start: int | None, end: int | None) -> tuple[int, int]:
        low = 0 if start is None else max(0, bisect_right(self._firsts, start) - 1)
        if start is not None and low < len(self._pieces) and self._pieces[low].last < start:
            low += 1
        high = len(self._pieces) if end is None else bisect_left(self._firsts, end)
        return low, max(low, high)

    def _count(self, piece: Piece, sign: int) -> None:
        self.changes += 1
        self.rows += sign * piece.rows
        self.bytes += sign * piece.bytes
        self.pyramid_bytes += sign * piece.pyramid_bytes
        if piece.hot is None:
            self.blocks += sign
            self.block_bytes += sign * piece.bytes
        else:
            self.hot_count += sign
            self.hot_rows += sign * piece.rows
            self.hot_bytes += sign * (piece.hot.nbytes + 512)
