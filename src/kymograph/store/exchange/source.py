"""A file, a pipe or an open stream to read from, with its name, its form and how far it has been read."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa

from kymograph.errors import InvalidInput, NotFound
from kymograph.store.exchange.form import Form, compression_of, form_of


class Source:
    """Where rows come from.

    Args:
        given: a path, or a binary stream (standard input) that can be read once.
        form: its form; None looks at the name.

    Attributes:
        name: what messages call it.
        form: csv, json, parquet, arrow or arrows.
        again: whether it can be read more than once.
        rows: how many it has, where it says so itself.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a folder, or a name that tells no form.
    """

    def __init__(self, given: str | os.PathLike[str] | BinaryIO, form: str | None = None) -> None:
        self._stream: BinaryIO | None = None
        self._path: Path | None = None
        self._size = 0
        self._raw: IO[bytes] | None = None
        self._ahead: _Ahead | None = None
        self.rows: int | None = None
        if isinstance(given, (str, os.PathLike)):
            self._path = Path(given)
            self.name = str(given)
            if not self._path.exists():
                raise NotFound(f"there is no file {self.name}")
            if self._path.is_dir():
                raise InvalidInput(f"{self.name} is a folder, not a file")
            self._size = self._path.stat().st_size
            self.again = self._path.is_file()
        else:
            self._stream = given
            self.name = str(getattr(given, "name", "the stream"))
            # what lies in memory can be read as often as a file
            self.again = isinstance(given, io.BytesIO)
        self.form: Form = form_of(self.name, form)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A binary file over the decompressed content; seekable for the forms that need it."""
        with self._opened() as raw:
            self._raw, self._ahead = raw, None
            compression = compression_of(self.name) if self.form in ("csv", "json") else None
            if compression == "gzip":
                with gzip.GzipFile(fileobj=raw) as plain:
                    yield self._told(plain)
            elif compression is not None:
                with pa.CompressedInputStream(raw, compression) as plain:
                    yield self._told(plain)
            elif self.form in ("parquet", "arrow", "arrows") and not self.again:
                with tempfile.TemporaryFile() as copy:
                    shutil.copyfileobj(raw, copy, 1 << 20)
                    copy.seek(0)
                    yield copy
            else:
                yield self._told(raw)

    def _told(self, plain: Any) -> Any:
        """The same content; CSV is read far ahead of its rows, so it is written down how far each read came."""
        if self.form != "csv" or not self._size:
            return plain
        assert self._raw is not None
        self._ahead = _Ahead(plain, self._raw)
        return self._ahead

    def fraction(self, taken: int) -> float | None:
        """How much of a file so many rows of it are, 0 to 1; None when nobody can know. Ask once for every chunk."""
        if self.rows:
            return min(1.0, taken / self.rows)
        if not self._size or not self.again or self._raw is None or self._raw.closed:
            return None
        return min(1.0, (self._raw.tell() if self._ahead is None else self._ahead.passed()) / self._size)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._stream is not None:
            if self.again:
                self._stream.seek(0)
            yield self._stream
        else:
            assert self._path is not None
            with self._path.open("rb") as raw:
                yield raw


class _Ahead:
    """Content that is read in one piece per chunk, long before the chunk is there."""

    def __init__(self, plain: Any, raw: IO[bytes]) -> None:
        self._plain, self._raw = plain, raw
        self._places: deque[int] = deque()
        self._last = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._plain.read(size)
        self._places.append(self._raw.tell())
        return bytes(piece)

    def passed(self) -> int:
        """Where in the raw file the next chunk ends."""
        if self._places:
            self._last = self._places.popleft()
        return self._last
