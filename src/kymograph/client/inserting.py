"""Continuous insertion over HTTP: data in pieces of any length, sent in blocks whose intervals join."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.stream import TIMESTAMP, Layout
from kymograph.store.streams.arrays import as_rows
from kymograph.wire.streams.text import TextDecoder

Array = np.ndarray[Any, Any]
Send = Callable[[Array, int, int], None]
# bytes of rows that are sent at once
BLOCK = 32 * 2**20
_S = TypeVar("_S", bound="_Insertion")


class _Insertion:
    """Rows on their way to a server, and the interval that they cover.

    The first block covers from `start` (or the first row) on, each other one from the end of the one before; each ends
    1 µs after its last row, the last one at `end`. What was sent stays when a later block is refused.
    """

    def __init__(self, layout: Layout, send: Send, start: int | None, end: int | None) -> None:
        self._layout = layout
        self._send = send
        self._start = start
        self._end = end
        self._parts: list[Array] = []
        self._size = 0

    def _take(self, rows: Array) -> None:
        if not len(rows):
            return
        # a copy: the caller may fill the same array again
        self._parts.append(rows.copy())
        self._size += rows.nbytes
        while self._size >= BLOCK:
            held = np.concatenate(self._parts)
            count = max(1, BLOCK // held.itemsize)
            self._block(held[:count], None)
            self._parts, self._size = [held[count:]], held[count:].nbytes

    def _block(self, rows: Array, end: int | None) -> None:
        start = int(rows[TIMESTAMP][0]) if self._start is None else self._start
        until = int(rows[TIMESTAMP][-1]) + 1 if end is None else end
        self._send(rows, start, until)
        self._start = until

    def finalize(self) -> None:
        """Send what is held, and end the interval; the next rows begin another one."""
        held = np.concatenate(self._parts) if self._parts else np.empty(0, self._layout.rows)
        self._parts, self._size = [], 0
        if len(held):
            self._block(held, self._end)
        elif self._start is not None and self._end is not None and self._start < self._end:
            self._send(held, self._start, self._end)
        self._start, self._end = None, None

    def update_start(self, start: int) -> None:
        """Where the next interval begins, µs; only between intervals."""
        if self._parts or self._start is not None:
            raise InvalidInput("an interval has begun already", hint="call finalize() first")
        self._start = start

    def update_end(self, end: int) -> None:
        """Where the interval ends, µs."""
        self._end = end

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.finalize()


class ArrayInsertion(_Insertion):
    """Insertion of arrays; made by `StreamClient.stream_insert_numpy_context`."""

    def insert(self, array: Any) -> None:
        """Take rows: structured, or 2-D with the time in column 0."""
        self._take(as_rows(array, self._layout))


class TextInsertion(_Insertion):
    """Insertion of text lines; made by `StreamClient.stream_insert_context`."""

    def __init__(self, layout: Layout, send: Send, start: int | None, end: int | None) -> None:
        super().__init__(layout, send, start, end)
        self._decoder = TextDecoder(layout)

    def insert(self, data: bytes | str) -> None:
        """Take text, cut anywhere."""
        self._take(self._decoder.feed(data.encode() if isinstance(data, str) else data))

    def finalize(self) -> None:
        """Send what is held, and end the interval; the next rows begin another one."""
        for rows in self._decoder.finish():
            self._take(rows)
        super().finalize()
