"""Continuous insertion: rows come in chunks of any length and are committed by size and by time."""

from __future__ import annotations

import threading
import time as clock
from typing import TYPE_CHECKING, Any

import numpy as np

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.stream import TIMESTAMP
from kymograph.model.time import isoformat, to_micros
from kymograph.store.streams.arrays import Array, as_rows

if TYPE_CHECKING:
    from kymograph.store.streams.stream import Stream


class StreamWriter:
    """Made by `Stream.writer`; a context manager. Each commit is one insertion, so what came before stays if one fails.

    The coverage has no holes between commits: each begins where the one before ended, until `gap()`. Leaving the
    context commits what is left, also after an exception. May be used by one thread at a time.

    Args:
        stream: where the rows go.
        start: beginning of the first interval; None takes its first row's time.
        rows: rows that are committed at once at the latest.
        seconds: how long a row waits for its commit at most; None waits for `rows`.
    """

    def __init__(self, stream: Stream, start: Any = None, *, rows: int = 1 << 20, seconds: float | None = 1.0) -> None:
        if rows < 1:
            raise InvalidInput(f"a commit has at least one row, not {rows}")
        self._stream = stream
        self._most = rows
        self._seconds = seconds
        self._start = None if start is None else to_micros(start)
        self._last: int | None = None
        self._waiting: list[Array] = []
        self._count = 0
        self._since = 0.0
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._failure: KymographError | None = None

    def write(self, array: Any) -> int:
        """Take rows (see `Stream.insert`), copied where they wait. Returns how many.

        Raises:
            InvalidInput: rows that do not increase, also against those before; none of this array is taken.
            Overlap, StorageError: a commit failed; rows not committed are dropped.
        """
        rows = as_rows(array, self._stream.layout)
        with self._lock:
            self._raise()
            self._check(rows)
            if not len(rows):
                return 0
            if not self._waiting:
                self._since = clock.monotonic()
            self._last = int(rows[TIMESTAMP][-1])
            taken = len(rows)
            if not self._waiting and len(rows) >= self._most:
                whole = len(rows) // self._most * self._most
                for at in range(0, whole, self._most):
                    self._commit(rows[at : at + self._most], None)
                rows = rows[whole:]
            if len(rows):
                self._waiting.append(rows.copy())
                self._count += len(rows)
            if self._count >= self._most or self._late():
                self.flush()
            elif self._waiting:
                self._arm()
            return taken

    def gap(self, end: Any = None) -> None:
        """Commit, and end the interval: at `end`, or one µs after the last row. The next row starts another one."""
        with self._lock:
            self.flush(end)
            self._start = None

    def flush(self, end: Any = None) -> None:
        """Commit what waits; with `end` the interval reaches until there, and no row before it may follow."""
        with self._lock:
            self._raise()
            until = None if end is None else to_micros(end)
            rows = self._waiting
            self._waiting, self._count = [], 0
            if rows or (until is not None and self._start is not None):
                none = np.empty(0, self._stream.layout.rows)
                self._commit(np.concatenate(rows) if len(rows) > 1 else rows[0] if rows else none, until)

    def close(self, end: Any = None) -> None:
        """Commit what waits and end the interval; see `gap`. May be called twice."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self.gap(end)

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except KymographError:
            if kind is None:
                raise

    def _check(self, rows: Array) -> None:
        times = rows[TIMESTAMP]
        if not len(times):
            return
        steps = np.flatnonzero(times[1:] <= times[:-1])
        if len(steps):
            at = int(steps[0])
            raise InvalidInput(
                f"{self._stream.path}: row {at + 1} at {isoformat(int(times[at + 1]))} ({int(times[at + 1])}) does not come "
                f"after row {at} at {isoformat(int(times[at]))} ({int(times[at])})",
                hint="times increase strictly; nothing of this array was taken",
            )
        before = self._last if self._start is None else max(self._start - 1, self._last or self._start - 1)
        if before is not None and int(times[0]) <= before:
            raise InvalidInput(
                f"{self._stream.path}: row 0 at {isoformat(int(times[0]))} ({int(times[0])}) does not come after what was "
                f"written before, until {isoformat(before)} ({before})",
                hint="nothing of this array was taken",
            )

    def _commit(self, rows: Array, until: int | None) -> None:
        start = int(rows[TIMESTAMP][0]) if self._start is None else self._start
        end = int(rows[TIMESTAMP][-1]) + 1 if until is None else until
        self._stream.insert(rows, start, end)
        self._start = end
        self._since = clock.monotonic()

    def _late(self) -> bool:
        return bool(self._waiting) and self._seconds is not None and clock.monotonic() - self._since >= self._seconds

    def _arm(self) -> None:
        """Commit later, should nothing more be written until then."""
        if self._seconds is None or (self._timer is not None and self._timer.is_alive()):
            return
        self._timer = threading.Timer(self._seconds, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            try:
                if self._late():
                    self.flush()
                elif self._waiting:
                    self._timer = None
                    self._arm()
            except KymographError as problem:
                self._failure = problem

    def _raise(self) -> None:
        if self._failure is not None:
            problem, self._failure = self._failure, None
            raise problem
