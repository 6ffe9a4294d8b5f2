"""Group commit: whoever gets the catalog first commits what waits behind him too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kymograph.errors import KymographError
from kymograph.local.catalog import Catalog

_T = TypeVar("_T")


@dataclass
class _Waiting:
    work: Callable[[], Any]
    result: Any = None
    done: bool = False
    error: BaseException | None = None


class Commits:
    """Runs pieces of work in transactions of the catalog, those that come together in one."""

    def __init__(self, catalog: Catalog, committed: Callable[[], None]) -> None:
        self._catalog = catalog
        self._committed = committed
        self._queue: list[_Waiting] = []
        self._queueing = threading.Lock()
        self._leading = threading.Lock()

    def run(self, work: Callable[[], _T]) -> _T:
        """Do `work`, which only writes to the catalog, and make it durable.

        Raises:
            DiskFull, StorageError: none of it is kept.
        """
        mine = _Waiting(work)
        with self._queueing:
            self._queue.append(mine)
        with self._leading:
            if not mine.done:
                with self._queueing:
                    group, self._queue = self._queue, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        result: _T = mine.result
        return result

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            with self._catalog.transaction():
                for one in group:
                    one.result = one.work()
            self._committed()
        except BaseException as problem:
            for one in group:
                one.error = problem
            if not isinstance(problem, KymographError):
                raise
        finally:
            for one in group:
                one.done = True
