"""An upload on its way into a stream: decoded as it comes, kept aside until its end, stored in one step or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.store.streams.stream import Stream

Array = np.ndarray[Any, Any]
# rows beyond this wait in a file, so that uploads of any length need little memory
IN_MEMORY = 32 * 2**20


class Decoder(Protocol):
    """Bytes cut anywhere, into arrays of whole rows."""

    def feed(self, data: bytes) -> Array: ...

    def finish(self) -> Iterator[Array]: ...

    def close(self) -> None: ...


class Staging:
    """Rows of one upload. One thread at a time.

    Args:
        folder: where the file is that holds what does not fit into memory; it has no name there and is gone with the
            process. None: the system's folder for such files.
        most: bytes of rows; beyond it LimitExceeded.
    """

    def __init__(self, stream: Stream, decoder: Decoder, folder: Path | None, most: int) -> None:
        self._stream = stream
        self._decoder = decoder
        self._folder = folder
        self._most = most
        self._parts: list[Array] = []
        self._held = 0
        self._file: Any = None
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._take(self._decoder.feed(data))

    def insert(self, start: int | None, end: int | None) -> int:
        """Store all rows as one insertion covering `[start, end)`. Returns how many."""
        for part in self._decoder.finish():
            self._take(part)
        rows = self._stream.layout.rows
        if self._file is None:
            found = np.concatenate(self._parts) if self._parts else np.empty(0, rows)
        else:
            self._spill()
            self._file.flush()
            found = np.memmap(self._file, rows, "r")
        if not len(found) and (start is None or end is None):
            raise InvalidInput("no rows and no interval: there is nothing to insert")
        return self._stream.insert(found, start, end)

    def _take(self, rows: Array) -> None:
        if not len(rows):
            return
        self._size += rows.nbytes
        if self._size > self._most:
            raise LimitExceeded(
                f"the upload has more than {self._most} bytes of rows", hint="insert it in several pieces"
            )
        self._parts.append(rows)
        self._held += rows.nbytes
        if self._held > IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close()
        for part in self._parts:
            part.tofile(self._file)
        self._parts, self._held = [], 0

    def close(self) -> None:
        """Let go of everything that was not inserted."""
        self._parts = []
        self._decoder.close()
        if self._file is not None:
            self._file.close()
