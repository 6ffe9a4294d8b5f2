"""Runs collectors side by side, stores what they bring and shows it to whoever watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from kymograph.collect.batch import Batch
from kymograph.collect.fanout import Fanout
from kymograph.collect.interface import Collector, Factory, Sink
from kymograph.collect.schedule import Clock
from kymograph.collect.worker import Worker
from kymograph.collect.writer import Writer
from kymograph.errors import InvalidInput

# How often hangs are looked for, seconds.
_WATCH = 1.0


class Supervisor:
    """Records: one thread per collector, one that stores, one per subscriber, one that notices hangs.

    Each batch is stored once, however many watch and whether or not anyone does. Collectors cannot
    stop each other, subscribers cannot stop collectors, and a store that fails stops neither: its rows
    wait, bounded, and are stored when it works again.

    Used once: `start`, then `stop`.
    """

    def __init__(
        self,
        sink: Sink,
        collectors: Iterable[Collector | Factory],
        *,
        max_rows: int = 1_000_000,
        max_bytes: int = 256 * 2**20,
        hang_after: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            sink: what stores, usually a Store; called from one thread. It may raise StorageError for
                as long as it is not there.
            collectors: collectors, or factories without arguments, which let a failed or hung one be
                replaced by a fresh one. A factory is called here once; what it raises is raised here.
            max_rows: rows and samples kept while the sink does not take them; the oldest go first.
            max_bytes: the same in bytes.
            hang_after: seconds without an answer after which a turn is hung; None is the longer of
                10 s and five intervals.
            clock: the two clocks.

        Raises:
            InvalidInput: two collectors of one name, or an interval out of range.
        """
        self._writer = Writer(sink, max_rows=max_rows, max_bytes=max_bytes)
        self._fanout = Fanout()
        limit = None if hang_after is None else int(hang_after * 1e6)
        self._workers = [Worker(each, self._accept, clock=clock, hang_after=limit) for each in collectors]
        names = [worker.name for worker in self._workers]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInput(f"two collectors are called {name}", hint="leave one out")
        self._watch_every = _WATCH if hang_after is None else min(_WATCH, hang_after / 4)
        self._stopping = threading.Event()

    def start(self) -> None:
        self._writer.start()
        for worker in self._workers:
            worker.start()
        threading.Thread(target=self._watch, name="kymograph-watch", daemon=True).start()

    def stop(self, timeout: float = 10.0) -> bool:
        """End collecting, store what was accepted; True when all of it is stored.

        Args:
            timeout: seconds this may take; at most half of it is spent on turns under way.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(deadline - timeout / 2 - time.monotonic())
        stored = self._writer.stop(max(0.0, deadline - time.monotonic()))
        self._fanout.stop()
        return stored

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def subscribe(self, callback: Callable[[Batch], None]) -> None:
        """Call `callback` with every batch from now on, whether or not the store takes it.

        It is called from a thread of its own and does not wait for storing. When it is slower than the
        collectors it loses old batches; what it raises is logged once and ignored.
        """
        self._fanout.subscribe(callback)

    def unsubscribe(self, callback: Callable[[Batch], None]) -> None:
        """End a subscription; one that is none is passed over."""
        self._fanout.unsubscribe(callback)

    def health(self) -> list[dict[str, Any]]:
        """One dict per collector, in the order given.

        Keys: name; state: "running", "waiting" (no turn yet), "failing", "hung" or "absent" (what it
        observes is not on this machine); last_success: int µs since the epoch or None; last_error: text,
        "" if there never was one; restarts; interval_s; dropped_rows: collected and never stored.
        """
        return [{**worker.health(), "dropped_rows": self._writer.dropped(worker.name)} for worker in self._workers]

    def backlog(self) -> dict[str, Any]:
        """What waits for the store: batches, rows, bytes, dropped_rows, last_error ("" while it works)."""
        return self._writer.backlog()

    def _accept(self, batch: Batch) -> None:
        self._fanout.publish(batch)
        self._writer.put(batch)

    def _watch(self) -> None:
        while not self._stopping.wait(self._watch_every):
            for worker in self._workers:
                worker.watch()
