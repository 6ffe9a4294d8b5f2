"""Decoded columns of blocks, kept up to a number of bytes, least recently used out first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class ColumnCache:
    """Thread-safe; two threads that miss at once both load, and one result is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple[Any, ...], load: Callable[[], T]) -> T:
        """The entry of `key`, loaded where missing. Values have `nbytes`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                return entry[0]  # type: ignore[no-any-return]
        value = load()
        self.put(key, value)
        return value

    def find(self, key: tuple[Any, ...]) -> Any:
        """The entry of `key`, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: tuple[Any, ...], value: Any) -> None:
        """Keep a value, unless it alone is larger than a quarter of the cache."""
        size = int(value.nbytes) + 200
        if size > self._limit // 4:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._size += size - (old[1] if old else 0)
            self._entries[key] = (value, size)
            while self._size > self._limit:
                _, (_, gone) = self._entries.popitem(last=False)
                self._size -= gone

    def drop_block(self, block_id: int) -> None:
        """Forget what belongs to a block; keys begin with the block's id."""
        with self._lock:
            for key in [k for k in self._entries if k[0] == block_id]:
                self._size -= self._entries.pop(key)[1]
