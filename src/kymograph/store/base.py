"""The ground of a store: its engine, its background jobs, and what has failed; facets with the verbs stand on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

from kymograph.engine.interface import Attended, Bounded, Engine, PruneReport
from kymograph.errors import StorageError, StoreClosed
from kymograph.options import StoreOptions
from kymograph.store.jobs import Job, Jobs, now_micros
from kymograph.store.namespaces import Place
from kymograph.store.report import BOUNDS, bounds_of

_T = TypeVar("_T")


class StoreBase:
    """An open engine and what belongs to it. Every facet of a store inherits from here and keeps no state of its own.

    Attributes:
        path: where it is: the folder's absolute path, or "memory:".
        options: what it was opened with.
    """

    def __init__(
        self,
        engine: Engine,
        options: StoreOptions | None = None,
        path: str = "memory:",
        place: Place | None = None,
    ) -> None:
        """Use `kymograph.connect`. The store owns the engine from here on and closes it.

        Args:
            place: where namespaces are; None where there are none.
        """
        self._engine = engine
        self._place = place
        self._closed = False
        self._closing = threading.Lock()
        self._rooms: dict[str, Any] = {}
        self._making = threading.RLock()
        self._write_failure: str | None = None
        self.options = options or StoreOptions()
        self.path = path
        self._jobs = Jobs(engine)
        if not self.options.read_only:
            if engine.get_document(*BOUNDS) != bounds_of(self.options):
                engine.put_document(*BOUNDS, bounds_of(self.options))
            self._jobs.add(Job("prune", self.options.prune_every, self._prune))

    @property
    def engine(self) -> Engine:
        """The engine below. Raises StoreClosed."""
        if self._closed:
            raise StoreClosed("the store is closed", hint="connect again")
        return self._engine

    def healthy(self) -> dict[str, Any]:
        """`{"ok": bool, "reason": str}`: the last write's or background job's failure, until the next success."""
        if self._closed:
            return {"ok": False, "reason": "the store is closed"}
        background = self._engine.failure if isinstance(self._engine, Attended) else ""
        reason = self._write_failure or background or self._jobs.failure() or ""
        return {"ok": not reason, "reason": reason}

    def close(self) -> None:
        """Stop the background jobs and close the engine; everything accepted is durable. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.stop()
            namespaces = self._rooms.get("namespaces")
            if namespaces is not None:
                namespaces.close()
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kymograph.{type(self).__name__} {self.path}{' (closed)' if self._closed else ''}>"

    def _check(self) -> None:
        _ = self.engine

    def _written(self, work: Callable[[], _T]) -> _T:
        """Run something that writes, and remember whether the storage below took it."""
        self._check()
        try:
            result = work()
        except StoreClosed:
            raise
        except StorageError as problem:
            if self._closed:  # it was closed under a write in progress, which was not acknowledged
                raise StoreClosed("the store is closed", hint="connect again") from None
            self._write_failure = str(problem)
            raise
        self._write_failure = None
        return result

    def _kept(self, key: str, make: Callable[[], _T]) -> _T:
        """What `make` returned for this key the first time: state that a facet keeps as long as the store is open."""
        found = self._rooms.get(key)
        if found is None:
            with self._making:
                found = self._rooms.get(key)
                if found is None:
                    found = self._rooms[key] = make()
        kept: _T = found
        return kept

    def _dropped(self, key: str) -> None:
        """Forget what `_kept` holds for this key, since it no longer holds: it is made anew."""
        with self._making:
            self._rooms.pop(key, None)

    def _pruned(self, *, dry_run: bool = False, force: bool = False) -> PruneReport:
        """See `Store.prune`."""
        engine = self.engine
        if not isinstance(engine, Bounded):
            return PruneReport((), dry_run)
        return self._written(lambda: engine.prune(now=now_micros(), dry_run=dry_run, force=force))

    def _prune(self) -> str:
        report = self._pruned()
        return f"{len(report.victims)} partitions, {report.rows} rows, {report.bytes} bytes removed"
