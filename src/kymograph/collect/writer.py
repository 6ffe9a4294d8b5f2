"""One thread between the collectors and the store: keeps what the store cannot take yet, within bounds."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kymograph.collect.batch import SAMPLE_BYTES, Batch, count_rows, size_of
from kymograph.collect.interface import Sink
from kymograph.errors import InvalidInput, NotOpen, StorageError

log = logging.getLogger("kymograph.collect")

_RETRY_FIRST, _RETRY_MOST = 0.1, 5.0
# An error that is neither bad input nor storage may be a passing one; this often, then it is not.
_ATTEMPTS = 5
# Metadata remembered so that it is written on change only; more names than this start over.
_DESCRIBED_MOST = 100_000


class Writer:
    """Writes batches in the order they came.

    When the sink fails with a `StorageError` or `OSError`, batches stay and are tried again, parts that
    were stored not again. What the sink calls invalid can never be stored: that part is dropped and
    counted. Beyond `max_rows` or `max_bytes` waiting, the oldest batches are dropped and counted (the
    newest and the one being written are kept whatever their size).
    """

    def __init__(self, sink: Sink, *, max_rows: int = 1_000_000, max_bytes: int = 256 * 2**20) -> None:
        self._sink = sink
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._rows = self._bytes = 0
        self._dropped: Counter[str] = Counter()
        self._described: dict[str, dict[str, str]] = {}
        self._last_error = ""
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="kymograph-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Accept a batch; never waits. After `stop` it is counted as dropped."""
        entry = _Entry(batch, deque(self._parts(batch)))
        with self._changed:
            if self._deadline is not None:
                self._dropped[batch.source] += entry.rows
                return
            self._waiting.append(entry)
            self._rows += entry.rows
            self._bytes += entry.bytes
            while len(self._waiting) > 1 and (self._rows > self._max_rows or self._bytes > self._max_bytes):
                self._discard(self._waiting.popleft())
            self._changed.notify()

    def dropped(self, source: str) -> int:
        """Rows and samples of a collector that were not stored and never will be."""
        with self._changed:
            return self._dropped[source]

    def backlog(self) -> dict[str, Any]:
        """batches, rows and bytes not stored yet, dropped_rows in all, last_error ("" once it works)."""
        with self._changed:
            return {
                "batches": len(self._waiting),
                "rows": self._rows,
                "bytes": self._bytes,
                "dropped_rows": self._dropped.total(),
                "last_error": self._last_error,
            }

    def stop(self, timeout: float) -> bool:
        """Store what was accepted, for at most `timeout` seconds; True when all of it is stored."""
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout + 0.1)
        with self._changed:
            left = self._rows
            for entry in self._waiting:
                self._dropped[entry.batch.source] += entry.rows
            self._waiting.clear()
        if left:
            log.error(
                "%d collected rows could not be stored before the end: %s", left, self._last_error or "slow store"
            )
        return not left

    def _discard(self, entry: _Entry) -> None:
        if not self._dropped[entry.batch.source]:
            log.error("the store takes no rows, dropping the oldest of %s", entry.batch.source)
        self._dropped[entry.batch.source] += entry.rows
        self._settle(entry.rows, entry.bytes)

    def _settle(self, rows: int, size: int) -> None:
        self._rows -= rows
        self._bytes -= size

    def _run(self) -> None:
        delay = _RETRY_FIRST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
                if not self._waiting or self._expired():
                    return
                entry = self._waiting.popleft()
            if self._store(entry):
                delay = _RETRY_FIRST
                continue
            with self._changed:
                self._waiting.appendleft(entry)
                limit = delay if self._deadline is None else _RETRY_FIRST
                self._changed.wait_for(lambda: self._deadline is not None, limit)
                if self._deadline is not None:
                    # the condition holds from now on, so it no longer paces the tries
                    self._changed.wait(min(_RETRY_FIRST, max(0.0, self._deadline - time.monotonic())))
            delay = min(2 * delay, _RETRY_MOST)

    def _expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _store(self, entry: _Entry) -> bool:
        """Store the parts that are left; False when the rest is to be tried again."""
        while entry.parts:
            part = entry.parts[0]
            try:
                part.call()
            except Exception as problem:
                if not self._lost_for_good(entry, problem):
                    return False
                with self._changed:
                    self._dropped[entry.batch.source] += part.rows
            else:
                self._last_error = ""
            entry.parts.popleft()
            entry.attempts = 0
            with self._changed:
                entry.rows -= part.rows
                entry.bytes -= part.bytes
                self._settle(part.rows, part.bytes)
        return True

    def _lost_for_good(self, entry: _Entry, problem: Exception) -> bool:
        entry.attempts += 1
        text = f"{type(problem).__name__}: {problem}"
        if not isinstance(problem, InvalidInput) and (
            isinstance(problem, (StorageError, OSError)) or entry.attempts < _ATTEMPTS
        ):
            if text != self._last_error and not isinstance(problem, NotOpen):
                log.warning("the store does not take rows, keeping them: %s", text)
            self._last_error = text
            return False
        log.error("rows of %s cannot be stored and are dropped: %s", entry.batch.source, text)
        return True

    def _parts(self, batch: Batch) -> Iterator[_Part]:
        for name, meta in batch.describe.items():
            if self._described.get(name) != meta:
                yield _Part(0, 0, partial(self._describe, name, dict(meta)))
        for table, data in batch.rows.items():
            if rows := count_rows(data):
                yield _Part(rows, size_of(data), partial(self._sink.write, table, data))
        if batch.samples:
            size = SAMPLE_BYTES * len(batch.samples)
            yield _Part(len(batch.samples), size, partial(self._sink.record, batch.samples))
        if batch.exemplars:  # no rows of anybody's, so that none are counted when they are lost
            yield _Part(0, SAMPLE_BYTES * len(batch.exemplars), partial(self._sink.record_exemplars, batch.exemplars))

    def _describe(self, name: str, meta: dict[str, str]) -> None:
        if self._described.get(name) == meta:
            return
        self._sink.describe(name, kind=meta.get("kind"), unit=meta.get("unit"), help=meta.get("help"))
        if len(self._described) >= _DESCRIBED_MOST:
            self._described.clear()
        self._described[name] = meta


@dataclass(slots=True)
class _Part:
    """One call on the sink: it either happened or did not."""

    rows: int
    bytes: int
    call: Callable[[], object]


@dataclass(slots=True, eq=False)
class _Entry:
    """A batch and the parts of it not stored yet; `rows` and `bytes` are of those parts."""

    batch: Batch
    parts: deque[_Part]
    attempts: int = 0
    rows: int = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = sum(part.rows for part in self.parts)
        self.bytes = sum(part.bytes for part in self.parts)
