"""Changes of the catalog's tables for streams, those that come together in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kymograph.local.catalog import Catalog
from kymograph.local.group import GroupCommit, Waiting

_T = TypeVar("_T")


@dataclass
class _Work(Waiting):
    work: Callable[[], Any]
    result: Any = None


class Commits:
    """Runs pieces of work in transactions of the catalog, those that come together in one."""

    def __init__(self, catalog: Catalog, committed: Callable[[], None]) -> None:
        self._catalog = catalog
        self._committed = committed
        self._group = GroupCommit[_Work](threading.Lock(), self._write)

    def run(self, work: Callable[[], _T]) -> _T:
        """Do `work`, which only writes to the catalog, and make it durable.

        Raises:
            DiskFull, StorageError: none of it is kept.
        """
        mine = _Work(work)
        self._group.commit(mine)
        result: _T = mine.result
        return result

    def _write(self, group: list[_Work]) -> None:
        with self._catalog.transaction():
            for one in group:
                one.result = one.work()
        self._committed()
