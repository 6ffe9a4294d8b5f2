"""The streams' part of the folder: where blocks lie, how they are written, and how a change is committed."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from kymograph.local.catalog import Catalog
from kymograph.local.files import Files
from kymograph.local.streams.block import SUFFIX, BlockFile, Encoded
from kymograph.local.streams.commits import Commits
from kymograph.local.streams.ledger import Ledger
from kymograph.local.streams.pieces import Piece
from kymograph.local.streams.state import StreamState
from kymograph.model.stream import Layout

FOLDER = "streams"
_OPEN = 128
_T = TypeVar("_T")


class Room:
    """DIR/streams and the streams' tables of the catalog.

    Attributes:
        refresh: sees what another process has committed; for those that find a block gone.
    """

    def __init__(self, folder: Path, files: Files, catalog: Catalog, *, sync: bool, read_only: bool) -> None:
        self.path = folder / FOLDER
        self.files = files
        self.ledger = Ledger(catalog, read_only=read_only)
        self.commits = Commits(catalog, self._remove_doubtful)
        self.refresh: Callable[[], object] = lambda: None
        self._sync = sync
        self._lock = threading.Lock()
        self._doubtful: list[str] = []
        self._summaries: dict[str, bytes] = {}
        # bytes by path of files that are, or are about to be, on the disk and in no stream
        self._beside: dict[str, int] = {}
        self._open: OrderedDict[str, BlockFile] = OrderedDict()

    def write(self, stream: StreamState, encoded: Encoded, start: int, end: int) -> Piece:
        """Write a block that no catalog knows yet; the piece has no id.

        Raises:
            DiskFull, StorageError: nothing is left behind.
        """
        name = f"{stream.id}/{encoded.first}-{secrets.token_hex(4)}{SUFFIX}"
        piece = Piece(
            0, encoded.first, encoded.last, start, end, encoded.rows, encoded.place, encoded.place_end, encoded.joined,
            len(encoded.data), encoded.pyramid_bytes, name, encoded.checksum, encoded.summary_level,
        )  # fmt: skip
        self.count([piece])
        try:
            self.files.publish(self.path / name, encoded.data, sync=self._sync)
        except BaseException:
            self.uncount([name])
            raise
        self._summaries[name] = encoded.summary
        return piece

    def usage(self) -> int:
        """Bytes of files that are in no stream: not yet, or no longer."""
        with self._lock:
            return sum(self._beside.values())

    def count(self, pieces: Iterable[Piece]) -> None:
        """Blocks of these pieces are on the disk, or about to be, without being in a stream."""
        with self._lock:
            self._beside.update((piece.path, piece.bytes) for piece in pieces if piece.path)

    def uncount(self, paths: Iterable[str]) -> None:
        """These files are in a stream now, or not there any more."""
        with self._lock:
            for path in paths:
                self._beside.pop(path, None)

    def commit(self, work: Callable[[], _T], written: Sequence[Piece] = ()) -> _T:
        """Do `work` in a transaction; should it fail, the files of `written` go, as soon as it is certain that it did."""
        try:
            result = self.commits.run(work)
            for piece in written:
                self._summaries.pop(piece.path, None)
            return result
        except BaseException:
            # a commit that failed at its last fsync may still be found after power loss: the files may only go once a
            # later commit has overwritten it
            with self._lock:
                self._doubtful += [piece.path for piece in written]
            raise

    def summary(self, piece: Piece) -> bytes:
        """The groups of a block that the catalog keeps, right after it was written."""
        return self._summaries.get(piece.path, b"")

    def discard(self, written: Iterable[Piece]) -> None:
        """Remove files that were written and will not be entered."""
        for piece in written:
            self._summaries.pop(piece.path, None)
            self._unlink(piece.path)

    def remove_files(self, pieces: Iterable[Piece]) -> None:
        """Remove blocks that the catalog has forgotten; whoever has them open reads on."""
        for piece in pieces:
            if piece.path:
                with self._lock:
                    self._open.pop(piece.path, None)
                self._unlink(piece.path)

    def open(self, piece: Piece, layout: Layout) -> BlockFile:
        """The block of a piece; a few are kept open.

        Raises:
            Corrupt, StorageError: it is damaged or gone.
        """
        with self._lock:
            found = self._open.get(piece.path)
            if found is not None:
                self._open.move_to_end(piece.path)
                return found
        opened = BlockFile(self.path / piece.path, layout)
        with self._lock:
            self._open[piece.path] = opened
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return opened

    def gone(self, stream: StreamState, pieces: Iterable[Piece]) -> bool:
        """Whether one of these pieces has been replaced or removed meanwhile, so that its file may be missing."""
        self.refresh()
        with stream.lock:
            return stream.dropped or not all(stream.pieces.has(piece) for piece in pieces)

    def close(self) -> None:
        """Let go of open blocks."""
        with self._lock:
            self._open.clear()

    def _remove_doubtful(self) -> None:
        with self._lock:
            doubtful, self._doubtful = self._doubtful, []
        for name in doubtful:
            self._unlink(name)

    def _unlink(self, name: str) -> None:
        self.files.unlink(self.path / name)
        self.uncount([name])

    def tidy(self, known: set[str]) -> int:
        """Remove what a crash left: files that the catalog does not know. Returns how many."""
        strays = [
            file for file in self.path.rglob("*") if file.is_file() and str(file.relative_to(self.path)) not in known
        ]
        for stray in strays:
            self.files.unlink(stray)
        for directory in self.path.glob("*"):
            with contextlib.suppress(OSError):
                directory.rmdir()
        return len(strays)
