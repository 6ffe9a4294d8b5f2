"""Background work on an open folder: hot rows become blocks, small blocks are merged; writers wait while the head is full."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from kymograph.errors import DiskFull, KymographError, StorageError
from kymograph.local import retention, sealing
from kymograph.local.attempts import Attempts
from kymograph.local.files import NO_ROOM
from kymograph.local.folder import Folder, Table
from kymograph.local.streams.engine import LocalStreams

log = logging.getLogger("kymograph.local")
_SPARE_BYTES = 4 * 2**20  # free pages of the catalog that wait for the next batches when nothing is going on


class Upkeep:
    """One thread that looks after one folder, once `start` is called; tried again for as long as it fails.

    Args:
        writable: raises when the engine is closed meanwhile, so that nobody waits for what never comes.

    Attributes:
        head_limit: bytes of the heads after which writers wait; from half of it on they are sealed.
        failure: why it fails at present, or "".
    """

    def __init__(self, folder: Folder, writable: Callable[[], Folder]) -> None:
        self.head_limit = folder.options.head_limit
        self.failure = ""
        self._folder, self._writable = folder, writable
        self._stuck = self._disk_full = False  # whether it keeps the head large, and is for want of room
        self._closed = False
        self._wake = threading.Condition()
        self._worker: threading.Thread | None = None

    def start(self, streams: LocalStreams) -> None:
        """Work from now on, on the streams too."""
        run = threading.Thread(target=self._run, args=(streams,), name="kymograph-maintenance", daemon=True)
        self._worker = run
        run.start()

    def close(self) -> None:
        """Return once the thread has ended; what it is at is done first."""
        self._closed = True
        self.wake()
        if self._worker is not None:
            self._worker.join()

    def wake(self) -> None:
        """Look now whether there is something to do."""
        with self._wake:
            self._wake.notify_all()

    def wait_for_room(self) -> None:
        """Hold writers back while the head is full; fail them while it cannot be sealed."""
        while self._head_bytes() > self.head_limit:
            with self._wake:
                self._wake.notify_all()
                if self.failure and self._stuck:
                    kind, hint = (DiskFull, NO_ROOM) if self._disk_full else (StorageError, "")
                    raise kind(f"cannot seal, so nothing more is taken: {self.failure}", hint=hint)
                self._wake.wait(0.05)
            self._writable()

    def wants_sealing(self) -> bool:
        """Whether the head is so full that it should not wait."""
        return self._head_bytes() > self.head_limit // 2

    def seal(self, table: Table) -> int:
        """Turn the hot rows of a table into blocks now. Returns rows sealed."""
        retention.make_room(self._folder, table.head.total_bytes)
        rows = sealing.seal(self._folder, table)
        if rows:
            self._folder.catalog.checkpoint()
        self.wake()
        return rows

    def shrink(self) -> None:
        """Give the catalog's free pages back, but for those that the next batches will fill."""
        self._folder.catalog.shrink(_SPARE_BYTES)

    def _head_bytes(self) -> int:
        return sum(table.head.total_bytes for table in self._folder.tables.values())

    def _run(self, streams: LocalStreams) -> None:
        pause = 1.0
        while not self._closed:
            with self._wake:
                idle = not self.wants_sealing() and not streams.wants_work()
                if idle and not self._closed:  # closing wakes only those who wait already
                    self._wake.wait(pause)
            if self._closed:
                return
            try:
                self._once(streams)
                if self.failure:
                    log.warning("background work succeeds again")
                self.failure, pause = "", 1.0
            except KymographError as problem:
                self._disk_full = isinstance(problem, DiskFull)
                if not self.failure:  # writers wake it as often as they like
                    log.error("background work failed, and is tried again until it succeeds: %s", problem)
                self.failure, pause = problem.message, min(pause * 2, 30.0)
                with self._wake:
                    self._wake.notify_all()
                    if not self._closed:
                        self._wake.wait(min(pause, 5.0))
            except Exception as problem:
                self.failure, self._stuck = repr(problem), True
                log.exception("background work failed")
                time.sleep(1)

    def _once(self, streams: LocalStreams) -> None:
        attempts = Attempts()
        attempts.run(self._folder.settings.follow)
        full = self.wants_sealing()
        now, stuck = time.monotonic(), 0
        for table in sorted(self._folder.tables.values(), key=lambda t: -t.head.total_bytes):
            large = full and self.wants_sealing()
            if large or table.head.age(now) * 1e6 > self._folder.options.seal_after:
                stuck += 0 if attempts.run(self.seal, table) else table.head.total_bytes
        self._stuck = stuck > self.head_limit // 2
        attempts.run(lambda: sealing.compact(self._folder, eager=False))
        attempts.run(streams.maintain)
        attempts.end()
        if not full:
            self.shrink()
