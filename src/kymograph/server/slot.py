"""The place a store is put into once it opens; what records and what asks go through it.

The server starts whether or not the store can be opened. Until it is, writes raise NotOpen (collectors keep or
drop by their own rules) and reads answer 503 with the reason; a thread tries again until it succeeds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kymograph.connect import connect
from kymograph.errors import KymographError, NotOpen, StorageError, StoreClosed, StoreLocked
from kymograph.model.exemplar import Exemplar
from kymograph.options import StoreOptions
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

log = logging.getLogger("kymograph.server")

_BACKOFF = (1.0, 2.0, 3.0, 5.0)


class StoreSlot:
    """Holds the open store, or the reason why there is none. Safe to use from many threads.

    Attributes:
        path: the folder.
        options: what the store is opened with.
        rows: rows and samples accepted since the start.
    """

    def __init__(self, path: Path | str, options: StoreOptions, on_open: Callable[[Store], None] | None = None) -> None:
        self.path = path
        self.rows = 0
        self.options = options
        self._on_open = on_open
        self._store: Store | None = None
        self._reason: KymographError = StorageError(f"the store {path} is still being opened")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._keep_open, name="kymograph-open", daemon=True)

    def start(self, wait: float = 0.0) -> None:
        """Begin to open in the background; wait up to so many seconds for the first outcome."""
        self._thread.start()
        self._changed.wait(wait)

    def get(self) -> Store:
        """The open store.

        Raises:
            NotOpen: there is none, and why; status 503.
        """
        store = self._store
        if store is None:
            reason = self._reason
            hint = reason.hint or "the server tries again every few seconds; live values go on"
            fault = NotOpen(f"the store cannot be used: {reason.message}", hint=hint)
            fault.code = reason.code
            raise fault
        return store

    @property
    def reason(self) -> str:
        """Why there is no store; "" when there is one."""
        return "" if self._store is not None else str(self._reason)

    def write(self, table: str, data: Any) -> int:
        rows = self.get().write(table, data)
        self.count(rows)
        return rows

    def record(self, samples: Iterable[Sample]) -> int:
        rows = self.get().record(samples)
        self.count(rows)
        return rows

    def record_exemplars(self, exemplars: Iterable[Exemplar]) -> list[bool]:
        return self.get().record_exemplars(exemplars)

    def describe(self, name: str, *, kind: Any = None, unit: str | None = None, help: str | None = None) -> None:
        self.get().describe(name, kind=kind, unit=unit, help=help)

    def count(self, rows: int) -> None:
        """Add rows that were stored past `write` and `record`."""
        with self._lock:
            self.rows += rows

    def close(self) -> None:
        """Close the store; everything accepted is durable when this returns."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            store, self._store = self._store, None
            self._reason = StoreClosed("the server is stopping")
        if store is not None:
            store.close()

    def _keep_open(self) -> None:
        for attempt in range(2**62):
            began = time.monotonic()
            if self._open(attempt):
                return
            pause = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
            # a slow failure (a network folder) is its own pause
            if self._stop.wait(max(0.1, pause - (time.monotonic() - began))):
                return

    def _open(self, attempt: int) -> bool:
        try:
            store = connect(self.path, options=self.options)
        except KymographError as error:
            if isinstance(error, StoreLocked):
                error.hint = "stop that process"
            reason = error
        except Exception as error:
            log.exception("opening %s failed", self.path)
            reason = StorageError(f"{type(error).__name__}: {error}")
        else:
            _open_namespaces(store)
            with self._lock:
                self._store = store
            if attempt:
                log.warning("the store %s is open now; recording goes on", self.path)
            if self._on_open is not None:
                self._on_open(store)
            self._changed.set()
            return True
        if str(reason) != str(self._reason):
            log.error("the store cannot be opened: %s; trying again every few seconds", reason)
        self._reason = reason
        self._changed.set()
        return False


def _open_namespaces(store: Store) -> None:
    """Open all of them: the cap counts those that are open, and their jobs run in them."""
    for name in store.namespaces():
        try:
            store.namespace(name)
        except KymographError as error:
            log.error("the namespace %s cannot be opened: %s", name, error)
