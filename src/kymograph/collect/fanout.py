"""Batches to whoever watches, without the watched ever waiting for them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from kymograph.collect.batch import Batch

log = logging.getLogger("kymograph.collect")

# Batches kept for a slow subscriber; beyond that it loses the oldest.
QUEUE = 64

Callback = Callable[[Batch], None]


class Fanout:
    """Hands every batch to every subscriber, each in a thread of its own.

    A subscriber that is slow loses old batches; one that raises is logged once and goes on being
    called. Neither delays collecting, storing or another subscriber.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[Callback, _Subscriber] = {}

    def subscribe(self, callback: Callback) -> None:
        """Call `callback` with every batch from now on; subscribing twice changes nothing."""
        with self._lock:
            if callback not in self._subscribers:
                self._subscribers[callback] = _Subscriber(callback)

    def unsubscribe(self, callback: Callback) -> None:
        """Stop calling it; a call that is under way ends by itself."""
        with self._lock:
            subscriber = self._subscribers.pop(callback, None)
        if subscriber is not None:
            subscriber.stop()

    def publish(self, batch: Batch) -> None:
        with self._lock:
            subscribers = list(self._subscribers.values())
        for subscriber in subscribers:
            subscriber.put(batch)

    def stop(self) -> None:
        for callback in list(self._subscribers):
            self.unsubscribe(callback)


class _Subscriber:
    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._queue: deque[Batch] = deque(maxlen=QUEUE)
        self._changed = threading.Condition()
        self._stopped = False
        self._complained = False
        threading.Thread(target=self._run, name="kymograph-subscriber", daemon=True).start()

    def put(self, batch: Batch) -> None:
        with self._changed:
            self._queue.append(batch)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopped)
                if self._stopped:
                    return
                batch = self._queue.popleft()
            try:
                self._callback(batch)
            except Exception:
                if not self._complained:
                    log.exception("a subscriber failed; it stays subscribed, further failures are not logged")
                self._complained = True
